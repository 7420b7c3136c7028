"""The one layout of a graph, over the engine of any store."""
