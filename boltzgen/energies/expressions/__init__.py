"""OpenMM's language of formulae in torch: parsed, differentiated by rule, evaluated in batches."""

from .expression import Expression
from .tabulated import Table, tables_of

__all__ = ["Expression", "Table", "tables_of"]
