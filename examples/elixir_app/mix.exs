defmodule ElixirApp.MixProject do
  use Mix.Project

  def project do
    [app: :elixir_app, version: "0.1.0", elixir: "~> 1.13", deps: deps()]
  end

  def application do
    [mod: {ElixirApp, []}, extra_applications: [:logger]]
  end

  defp deps do
    [{:teleport, git: "https://example.org/teleport.git", branch: "main", subdir: "erlang"}]
  end
end
