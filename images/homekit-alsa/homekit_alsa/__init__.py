"""ALSA's volume controls in HomeKit."""
