defmodule ElixirApp do
  @moduledoc "Each node has a store, `ElixirApp.KV`; `demo/1` uses that of another node."
  use Application

  alias ElixirApp.KV

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([KV], strategy: :one_for_one)
  end

  @doc "Puts a large value into the store of another node, and reads it back."
  def demo(node) do
    scan = :binary.copy("scan", 8 * 1024 * 1024)
    # GenServer.cast/2 and GenServer.call/2. A cast and a call of one process keep their order.
    :ok = :teleport.cast({KV, node}, {:put, :scan, scan})
    {:ok, ^scan} = :teleport.gs_call({KV, node}, {:get, :scan})
    :error = :teleport.gs_call({KV, node}, {:get, :nothing})
    IO.puts("#{byte_size(scan)} bytes went to #{node} and back, by teleport: #{inspect(:teleport.nodes())}")
  end
end
