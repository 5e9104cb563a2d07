"""Wiz lamps in HomeKit."""
