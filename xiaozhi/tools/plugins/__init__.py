"""The server's own tools. A file here may hold one tool or several of a family; it is found by being here.

A tool is a function with the decorator `@tool` of `xiaozhi/tools/registry.py`, or a method of a class where several
tools share something. Its docstring is what the language model reads; notes for people are comments. Not for tools of
devices or of foreign MCP servers: those come from their sources while the server runs."""
