"""Readers of on-disk formats, one file each; :mod:`lorasub.data.readers.base` has their contract."""
