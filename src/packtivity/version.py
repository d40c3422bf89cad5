"""The version of this package, without reading the metadata of an installation, which takes long."""

VERSION = "1.0.0"
