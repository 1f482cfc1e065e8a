"""Boltzmann generators."""
