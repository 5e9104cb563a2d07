# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which licence a text is, if that is certain: it is that licence and nothing else. No I/O."""

from __future__ import annotations

import hashlib
import re

# The sha256 of what `normal` leaves of a licence's text -> its SPDX identifier. Two of one licence differ in a word.
KNOWN = {
    "f5fc85c293ea95ca01e1cf27dd811344682e2725307a916416f148f1005be9e1": "Apache-2.0",
    "0cf21bdfd1964a97a8615e128534845826afbc887edc95aa5c925cbf64386b5c": "MIT",
    "34f8954643b9af4f0c29cbd34f204d4c8dcc884f66644475ff82fe0c6911acbf": "BSD-3-Clause",
    "7be8178e4e9d0dea6ff4b04bd52bd086d7ea8386a5a6e09760df916bae5d42d2": "BSD-2-Clause",
    "f4449228bbbb3bd277bc26c875558b425387fc285b37b020aa2322837c8ea03c": "MPL-2.0",
    "aca9cab6c8469a7a38fd2c3d40b72b5566d0641f8c2f12dc98030b02e6e50ad3": "MPL-2.0",
    "217da0747cec63a2e734185db11cbaa819bcd9e5b83cd12f812128fffe66e26a": "ISC",
}
_OWNER = re.compile(r"[\s#*/%;-]*(\(c\)|©|all rights reserved|(portions )?copyright\b(?! (notice|owner|holder|and)))")
_END = "end of terms and conditions"  # of the Apache License; behind it is how to apply it
_APPENDIX = re.compile(r"((appendix how to apply the apache license to your work .{0,700})?"
                       r"licensed under the apache license version 2 0 .{0,600} limitations under the license)?")
_TITLE = re.compile(r"(the )?((mit|isc|bsd|[23] clause|simplified|revised|modified|new|or|license) )+")


def recognised(text: str) -> str:
    """The SPDX identifier of a licence's text, or ''."""
    text = text.lower()
    terms, end, rest = text.partition(_END)
    if end and not _APPENDIX.fullmatch(normal(rest)):
        return ""
    return KNOWN.get(hashlib.sha256(normal(terms).encode()).hexdigest(), "")


def normal(text: str) -> str:
    """A text without what differs from one copy of a licence to the other: who owns it, its title, signs, numbers of
    paragraphs, the layout."""
    lines = [re.sub(r"^[\s#*/%;-]*([0-9][.)])?", "", line) for line in text.lower().splitlines()
             if not _OWNER.match(line)]
    words = re.sub(r"\s+", " ", " ".join(lines)).replace("all rights reserved", "").replace("https:", "http:")
    words = re.sub(r"neither the names? of .{1,120}? nor the names of", "neither the name of x nor the names of", words)
    words = re.sub(r"copyright holder or contributors", "copyright owner or contributors", words)
    words = re.sub(r"[^a-z0-9]+", " ", words).strip()
    return words.removeprefix(found[0]) if (found := _TITLE.match(words)) else words
