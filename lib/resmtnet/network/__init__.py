"""Res-MTNet, its losses and its uncertainty."""
