from homekit import bridge

from homekit_wiz.lamp import WizLamp

bridge.main("LAMPS", "Kitchen=192.168.1.20", WizLamp)
