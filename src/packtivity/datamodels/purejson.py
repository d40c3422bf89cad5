"""Parameter documents of plain data, under the name of upstream 0.17.1."""

from packtivity.datamodel import PureJsonModel

__all__ = ["PureJsonModel"]
