"""Draws a replay as an animated GIF that plays wherever an image is shown: notebooks, HTML exports, GitHub."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_jobs.notebook.extra import require
from metta_jobs.notebook.replay_file import Cell, ReplayFile, Thing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

#: A larger animation (bytes) is drawn again with fewer frames.
MOST_BYTES = 1_900_000
_MOST_FRAMES = 280
_GRID_PX = 540
_PANEL_PX = 196
_PAD = 16
_FINE = 4  # sprites are drawn this much larger, and scaled down smoothly
_LAST_FRAME_MS = 1800

_PAPER, _FLOOR, _LATTICE = "#ffffff", "#f3efe7", "#e9e3d7"
_WALL, _WALL_TOP = "#4b5563", "#5f6b7b"
_INK, _SOFT, _TRACK = "#1f2937", "#6b7280", "#e5e7eb"
_HEART, _STONE, _STONE_EMPTY = "#e0425b", "#d9a441", "#c9c4ba"
_AGENTS = (
    "#2f6fde", "#e8871e", "#2a9d5c", "#8a4fd0", "#12a5b8", "#c2417c", "#8c6d31", "#5b6ee1", "#6b8e23", "#b0532f",
)  # fmt: skip


def animate(replay: ReplayFile, title: str) -> bytes:
    """Return the replay as a GIF of at most MOST_BYTES, or as near as coarse time steps come; raises MissingExtra.

    Agents glide from cell to cell; beside the map stand the step, what was collected, and each agent's share.
    """
    require("PIL", "matplotlib")
    stage = _Stage(replay, title)
    every, between = max(1, math.ceil(replay.steps / _MOST_FRAMES)), 3 if replay.steps <= 100 else 2
    if replay.steps > _MOST_FRAMES // 2:
        between = 1
    while True:
        content = _encoded(stage, every, between)
        if len(content) <= MOST_BYTES or replay.steps / every < 24:
            return content
        every, between = (every * 2, 1) if between == 1 else (every, between - 1)


def _encoded(stage: _Stage, every: int, between: int) -> bytes:
    from PIL import Image

    steps = [*range(0, stage.replay.steps - 1, every), stage.replay.steps - 1]
    moments = [
        (step, after, part / between) for step, after in pairwise(steps) for part in range(between if every == 1 else 1)
    ]
    moments.append((steps[-1], steps[-1], 0.0))
    palette, exact = stage.palette(steps)
    frames = [stage.frame(*moment).quantize(palette=palette, dither=Image.Dither.NONE) for moment in moments]
    for frame in frames:
        frame.putpalette(exact)
    pause = 180 // between if every == 1 else 90
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[pause] * (len(frames) - 1) + [_LAST_FRAME_MS],
        loop=0,
        disposal=1,
        optimize=True,  # what stays as it was is left out
    )
    return buffer.getvalue()


@dataclass
class _Stage:
    """The drawing of one replay, at any moment of it."""

    replay: ReplayFile
    title: str

    @cached_property
    def window(self) -> tuple[int, int, int, int]:
        """The part of the map that is shown (left, top, right, bottom; exclusive): without outer walls many deep."""
        width, height = self.replay.size
        inside = [(x, y) for x in range(width) for y in range(height) if (x, y) not in self.replay.walls]
        if not inside:
            return 0, 0, width, height
        return (
            max(0, min(x for x, _ in inside) - 1),
            max(0, min(y for _, y in inside) - 1),
            min(width, max(x for x, _ in inside) + 2),
            min(height, max(y for _, y in inside) + 2),
        )

    @cached_property
    def cell(self) -> int:
        """Pixels of a cell."""
        left, top, right, bottom = self.window
        return max(3, min(32, _GRID_PX // max(right - left, bottom - top)))

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Pixels of the map."""
        left, top, right, bottom = self.window
        return (right - left) * self.cell, (bottom - top) * self.cell

    @cached_property
    def size(self) -> tuple[int, int]:
        """Pixels of the picture."""
        return self.grid[0] + _PANEL_PX + 3 * _PAD, max(self.grid[1], 240) + 2 * _PAD

    def place(self, x: float, y: float) -> tuple[int, int]:
        """The upper left corner of a cell in the picture."""
        return round(_PAD + (x - self.window[0]) * self.cell), round(_PAD + (y - self.window[1]) * self.cell)

    @cached_property
    def ground(self) -> Image:
        """All that never changes: floor and walls, the words of the panel."""
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", self.size, _PAPER)
        draw, c = ImageDraw.Draw(picture), self.cell
        left, top, right, bottom = self.window
        draw.rectangle((*self.place(left, top), _PAD + self.grid[0] - 1, _PAD + self.grid[1] - 1), fill=_FLOOR)
        if c >= 8:
            for x in range(left, right):
                draw.line((*self.place(x, top), self.place(x, top)[0], _PAD + self.grid[1] - 1), fill=_LATTICE)
            for y in range(top, bottom):
                draw.line((*self.place(left, y), _PAD + self.grid[0] - 1, self.place(left, y)[1]), fill=_LATTICE)
        for x, y in self.replay.walls:
            if left <= x < right and top <= y < bottom:
                px, py = self.place(x, y)
                draw.rectangle((px, py, px + c - 1, py + c - 1), fill=_WALL)
                if (x, y - 1) not in self.replay.walls and c >= 8:
                    draw.rectangle((px, py, px + c - 1, py + max(1, c // 6)), fill=_WALL_TOP)
        return picture

    def palette(self, steps: list[int]) -> tuple[Image, list[int]]:
        """The colours of the first and the last frame, which are those of all; and the same (r, g, b, r, …) with the
        very colours of the large areas, in place of the mean of what is near them."""
        from PIL import Image, ImageColor

        both = Image.new("RGB", (self.size[0], 2 * self.size[1]))
        both.paste(self.frame(steps[0], steps[0], 0.0), (0, 0))
        both.paste(self.frame(steps[-1], steps[-1], 0.0), (0, self.size[1]))
        found = both.quantize(128, dither=Image.Dither.NONE)
        colours = list(found.getpalette() or [])
        for exact in map(ImageColor.getrgb, (_TRACK, _WALL, _FLOOR, _PAPER)):
            one = Image.new("RGB", (1, 1), exact[:3]).quantize(palette=found, dither=Image.Dither.NONE)
            at = 3 * one.tobytes()[0]
            colours[at : at + 3] = exact[:3]
        return found, colours

    def frame(self, step: int, after: int, part: float) -> Image:
        """The picture at `part` of the way from a step to the one shown after it."""
        picture = self.ground.copy()
        for thing in self.replay.objects:
            if (cell := thing.cells[step]) is not None:
                self._put(picture, self._object(thing, step), *cell)
        for number, agent in enumerate(self.replay.agents):
            here, there = agent.cells[step], agent.cells[after]
            if here is None:
                continue
            near = there is not None and abs(there[0] - here[0]) + abs(there[1] - here[1]) <= 2
            target = there if near and there is not None else here
            smooth = part * part * (3 - 2 * part)
            x, y = here[0] + (target[0] - here[0]) * smooth, here[1] + (target[1] - here[1]) * smooth
            self._put(picture, self._agent(number, self._facing(agent, step, after)), x, y)
            if step and agent.amounts[step] > agent.amounts[step - 1]:
                self._put(picture, self._plus, x + 0.3, y - 0.45)
        self._panel(picture, step)
        return picture

    def _put(self, picture: Image, sprite: Image, x: float, y: float) -> None:
        picture.paste(sprite, self.place(x, y), sprite)

    def _facing(self, agent: Thing, step: int, after: int) -> Cell:
        """The direction of the newest move."""
        for at in range(after, 0, -1):
            here, before = agent.cells[at], agent.cells[at - 1]
            if at <= step - 12 or here is None or before is None:
                break
            if here != before:
                return _sign(here[0] - before[0]), _sign(here[1] - before[1])
        return 0, 1

    # ------------------------------------------------------------------------------------------ sprites

    @cached_property
    def _sprites(self) -> dict[Any, Image]:
        return {}

    def _sprite(self, key: Any, paint: Any, size: int = 0) -> Image:
        """A picture of a cell (or of `size` pixels), drawn once, smooth at its edges."""
        from PIL import Image, ImageDraw

        if key not in self._sprites:
            size = size or self.cell
            side = size * _FINE
            large = Image.new("RGBA", (side, side), (0, 0, 0, 0))
            paint(ImageDraw.Draw(large), side)
            self._sprites[key] = large.resize((size, size), Image.Resampling.LANCZOS)
        return self._sprites[key]

    def _agent(self, number: int, facing: Cell, size: int = 0) -> Image:
        colour = _AGENTS[number % len(_AGENTS)]

        def paint(draw: Any, side: int) -> None:
            edge = side * 0.07
            draw.ellipse((edge, edge, side - edge, side - edge), fill=colour, outline="#ffffff", width=side // 14)
            for eye in (-1, 1):
                x = side * (0.5 + 0.17 * eye * (1 if facing[1] or not facing[0] else 0.55) + 0.16 * facing[0])
                y = side * (0.46 + 0.14 * facing[1])
                draw.ellipse((x - side * 0.11, y - side * 0.13, x + side * 0.11, y + side * 0.13), fill="#ffffff")
                x, y = x + side * 0.035 * facing[0], y + side * 0.05 * facing[1]
                draw.ellipse((x - side * 0.06, y - side * 0.07, x + side * 0.06, y + side * 0.07), fill=_INK)

        return self._sprite(("agent", number % len(_AGENTS), facing, size), paint, size)

    def _object(self, thing: Thing, step: int) -> Image:
        amount, full = thing.amounts[step], max(thing.amounts[0], 1)
        if thing.kind == "altar" or thing.amounts[0]:
            return self._sprite(("altar", min(4, math.ceil(4 * amount / full))), _altar(amount / full))
        return self._sprite(thing.kind, _other(thing.kind))

    @cached_property
    def _plus(self) -> Image:
        def paint(draw: Any, side: int) -> None:
            _heart(draw, side * 0.5, side * 0.5, side * 0.34, "#ffffff")
            _heart(draw, side * 0.5, side * 0.5, side * 0.26, _HEART)

        return self._sprite("plus", paint)

    # ------------------------------------------------------------------------------------------ the panel

    def _panel(self, picture: Image, step: int) -> None:
        from PIL import ImageDraw

        draw = ImageDraw.Draw(picture)
        x, y = self.grid[0] + 2 * _PAD, _PAD
        right = x + _PANEL_PX
        draw.text((x, y), _fitted(self.title, _font(14, bold=True), _PANEL_PX), fill=_INK, font=_font(14, bold=True))
        y += 28
        last = self.replay.steps - 1
        draw.text((x, y), "step", fill=_SOFT, font=_font(12))
        _right(draw, right, y, f"{step:,} / {last:,}", _INK, _font(12))
        y += 20
        _bar(picture, (x, y, right, y + 6), step / max(1, last), _INK)
        y += 20
        counted = bool(self.replay.item)
        if counted:
            # Where items are made on the way, what there was at first is no measure.
            whole, final = self.replay.collected(step), self.replay.collected(last)
            available = max(1, self.replay.available, final)
            draw.text((x, y), f"{self.replay.item}s collected", fill=_SOFT, font=_font(12))
            _right(draw, right, y, f"{whole:,} / {available:,}", _INK, _font(12))
            y += 20
            _bar(picture, (x, y, right, y + 6), whole / available, _HEART)
            y += 26
        shares = [float(a.amounts[step]) if counted else a.rewards[step] for a in self.replay.agents]
        most = max([1.0, *(float(a.amounts[-1]) if counted else a.rewards[-1] for a in self.replay.agents)])
        draw.text((x, y), "by agent" if counted else "reward by agent", fill=_SOFT, font=_font(12))
        y += 22
        room = max(1, (self.size[1] - _PAD - y) // 21)
        shown = len(shares) if len(shares) <= room else room - 1
        for number, amount in enumerate(shares[:shown]):
            icon = self._agent(number, (0, 1), 18)
            picture.paste(icon, (x, y), icon)
            _bar(picture, (x + 24, y + 6, right - 34, y + 13), amount / most, _AGENTS[number % len(_AGENTS)])
            _right(draw, right, y + 1, f"{amount:,.0f}" if counted else f"{amount:,.1f}", _INK, _font(12))
            y += 21
        if shown < len(shares):
            draw.text((x, y + 1), f"and {len(shares) - shown:,} more agents", fill=_SOFT, font=_font(12))


def _altar(share: float) -> Any:
    """A plinth with what it has left: a heart that shrinks, an outline when there is none."""

    def paint(draw: Any, side: int) -> None:
        edge = side * 0.06
        stone = _STONE if share > 0 else _STONE_EMPTY
        draw.rounded_rectangle((edge, edge, side - edge, side - edge), side * 0.2, fill=stone)
        inner = side * 0.14
        draw.rounded_rectangle(
            (inner, inner, side - inner, side - inner), side * 0.14, fill="#fff6df" if share > 0 else "#dedad2"
        )
        if share > 0:
            _heart(draw, side / 2, side / 2, side * (0.18 + 0.14 * share), _HEART)

    return paint


def _other(kind: str) -> Any:
    colour = _AGENTS[sum(kind.encode()) % len(_AGENTS)]

    def paint(draw: Any, side: int) -> None:
        edge = side * 0.1
        draw.rounded_rectangle((edge, edge, side - edge, side - edge), side * 0.16, fill=colour)
        letter = kind[:1].upper()
        draw.text((side / 2, side / 2), letter, fill="#ffffff", font=_font(int(side * 0.55), bold=True), anchor="mm")

    return paint


def _heart(draw: Any, x: float, y: float, radius: float, colour: str) -> None:
    """A heart around (x, y), by its usual parametric curve."""
    points = []
    for degree in range(0, 360, 6):
        t = math.radians(degree)
        across = 16 * math.sin(t) ** 3
        down = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x + across / 16 * radius, y + (down - 2) / 16 * radius))
    draw.polygon(points, fill=colour)


def _bar(picture: Image, box: tuple[int, int, int, int], share: float, colour: str) -> None:
    """A bar with round ends, filled as far as `share` says."""
    from PIL import Image, ImageDraw

    width, height = box[2] - box[0], box[3] - box[1]
    large = Image.new("RGB", (width * _FINE, height * _FINE), _PAPER)
    draw, radius = ImageDraw.Draw(large), height * _FINE / 2
    draw.rounded_rectangle((0, 0, width * _FINE - 1, height * _FINE - 1), radius, fill=_TRACK)
    if share > 0:
        filled = max(height, round(width * min(1.0, share)))
        draw.rounded_rectangle((0, 0, filled * _FINE - 1, height * _FINE - 1), radius, fill=colour)
    picture.paste(large.resize((width, height), Image.Resampling.LANCZOS), box[:2])


def _right(draw: Any, right: float, y: float, text: str, colour: str, font: FreeTypeFont) -> None:
    draw.text((right, y), text, fill=colour, font=font, anchor="ra")


def _fitted(text: str, font: FreeTypeFont, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


_FONTS: dict[tuple[int, bool], Any] = {}


def _font(size: int, bold: bool = False) -> FreeTypeFont:
    """The font that matplotlib brings, so that pictures look alike everywhere."""
    import matplotlib
    from PIL import ImageFont

    if (size, bold) not in _FONTS:
        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
        _FONTS[size, bold] = ImageFont.truetype(str(path), max(1, size))
    found: FreeTypeFont = _FONTS[size, bold]
    return found


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
