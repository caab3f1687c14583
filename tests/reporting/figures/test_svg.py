"""Drawings are well-formed XML whatever the data holds."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from sweep.reporting.figures import svg

ODD = "".join(map(chr, range(0x20))) + "\x7f\x9b\ufffe\ud800 <b> & \"'"


def test_control_characters_leave_a_drawing_well_formed() -> None:
    parts = [svg.text(0, 0, ODD), svg.title(ODD), svg.tag("g", class_=ODD), svg.mark(1, 0, 0, ODD)]
    drawing = svg.drawing(10, *parts)
    assert "\x1b" not in drawing
    assert len(list(ET.fromstring(drawing).iter())) == 6
