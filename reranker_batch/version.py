"""The version of this program, as it stands in manifests and reports."""

__version__ = "0.1.0"
