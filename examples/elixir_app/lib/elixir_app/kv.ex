defmodule ElixirApp.KV do
  @moduledoc "A GenServer as anybody would write it."
  use GenServer

  def start_link(_options), do: GenServer.start_link(__MODULE__, %{}, name: __MODULE__)

  @impl true
  def init(values), do: {:ok, values}

  @impl true
  def handle_call({:get, key}, _from, values), do: {:reply, Map.fetch(values, key), values}

  @impl true
  def handle_cast({:put, key, value}, values), do: {:noreply, Map.put(values, key, value)}
end
