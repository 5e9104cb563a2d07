"""What the HomeKit images have in common: settings, and a bridge of things with a switch and a level."""
