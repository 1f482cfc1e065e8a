"""The colours of the pictures, told apart by everyone (Okabe & Ito)."""

from __future__ import annotations

__all__ = ["ELEMENTS", "FLOW", "OTHER", "PLAIN", "REWEIGHTED"]

FLOW, REWEIGHTED, OTHER, PLAIN = "#D55E00", "#0072B2", "#009E73", "#555555"
"""Vermilion, blue, bluish green, and grey."""

ELEMENTS = {"H": "#C8C8C8", "C": "#555555", "N": "#0072B2", "O": "#D55E00", "S": "#E69F00", "P": "#CC79A7"}
"""Of atoms, whose letters stand beside them."""
