import re
from xml.etree import ElementTree

from display_cases import full_snapshot

from metta_jobs.display.frame import render_monitor
from metta_jobs.display.picture import save_svg


def test_the_picture_refers_to_nothing_remote_and_stays_the_same(tmp_path):
    frame = render_monitor(full_snapshot(), 80, 24, fill=True)
    for name in ("one.svg", "two.svg"):
        save_svg(frame, tmp_path / name, 80, 24, "metta <job> & monitor")
    svg = (tmp_path / "one.svg").read_text()
    assert svg == (tmp_path / "two.svg").read_text()
    assert re.findall(r"https?://[^\s\"'<]+", svg.replace("http://www.w3.org/2000/svg", "")) == []
    assert "@import" not in svg
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", svg)
    words = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    assert "metta <job> & monitor" in words
    assert "large_n…k.seed0" in words
