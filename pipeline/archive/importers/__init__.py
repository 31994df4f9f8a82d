"""The importers: each a module, with its parts beside it. `known` lists them all; what all share loads none of them."""
