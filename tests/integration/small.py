"""A small catalog with real steps: a shell made of one locked Debian package, and a chain of images above it."""

from __future__ import annotations

from pathlib import Path

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v6")
RECIPE = ("description: {name}\nhome: https://example.org\nlicense: MIT\n"
          "platforms: [linux/amd64, linux/arm64, linux/arm/v6]\n")
SHELL = "inputs:\n  busybox: {debian: [busybox-static], for: build}\n"
BOX = r"""FROM --platform=$BUILDPLATFORM unpacked-busybox AS sh
ARG TARGETPLATFORM
COPY etc/ /in/
RUN ["/usr/bin/busybox", "sh", "-c", \
    "/usr/bin/busybox mkdir /out && /usr/bin/busybox tr a-z A-Z < /in/motd > /out/motd && \
     echo $TARGETPLATFORM > /out/platform"]
FROM scratch
COPY --from=sh /out/ /
"""


class Small:
    """box <- child <- grand, and other, which needs none of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("box/image.yml", RECIPE.format(name="box") + SHELL)
        self.write("box/Dockerfile", BOX)
        self.write("box/etc/motd", "hello\n")
        for name, parent in (("child", "box"), ("grand", "child"), ("other", "scratch")):
            self.write(f"{name}/image.yml", RECIPE.format(name=name))
            self.write(f"{name}/Dockerfile", f"FROM {parent}\nCOPY {name}.txt /\n")
            self.write(f"{name}/{name}.txt", f"{name}\n")

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))


def units(*images: str, platforms: tuple[str, ...] = PLATFORMS) -> set[str]:
    """`units("a")` -> {"a linux/amd64", ...}"""
    return {f"{image} {platform}" for image in images for platform in platforms}
