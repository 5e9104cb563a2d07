from homekit import bridge

from homekit_alsa.mixer import Control

bridge.main("CONTROLS", "Speaker=default:Master", Control)
