"""hypervault: entities in logical shards over a few PostgreSQL servers.

>>> from hv.datastore import Datastore
>>> from hv.entity import Key
"""

from ._hv import __version__

__all__ = ["__version__"]
