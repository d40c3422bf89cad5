"""Parameter documents with typed leaves, under the name of upstream 0.17.1."""

from packtivity.datamodel import LeafModel, TypedLeafs

__all__ = ["LeafModel", "TypedLeafs"]
