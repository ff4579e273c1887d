"""The page as a reader has it: in a real browser, with nothing fetched, by mouse and by keyboard, in both colours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip

CONTRAST = """() => {
  const number = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(number(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement, style = getComputedStyle(node);
    const isText = text.textContent.trim() && !["SCRIPT", "STYLE", "title"].includes(node.tagName);
    if (!isText || !node.getClientRects().length) continue;
    const under = ground(node), ink = over(number(node instanceof SVGElement ? style.fill : style.color), under);
    const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${text.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_api.sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reader(browser: Any, finished_file: Path) -> Iterator[Any]:
    """The page at 1400 pixels, and in `.told` whatever it said or asked for."""
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    page.told = []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else page.told.append(request.url)
    )
    page.goto(finished_file.as_uri())
    yield page
    page.close()


def _is_far(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


def column(page: Any, number: int) -> list[float]:
    """The values of a column of the metric table, without baselines and runs that lack it."""
    cells = page.locator(f"#numbers tbody tr:not(.baseline) td:nth-child({number})")
    return [float(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)") if value]


def test_it_says_nothing_to_the_console_and_asks_no_network(reader: Any) -> None:
    reader.select_option("#slice", "overall")
    assert reader.told == []


def test_a_button_sorts_the_table_both_ways(reader: Any) -> None:
    head = reader.locator("#numbers thead th:nth-child(4)")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = column(reader, 4)
    assert len(rising) > 2 and rising == sorted(rising)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(reader, 4) == rising[::-1]


def test_the_best_of_a_column_is_marked(reader: Any) -> None:
    best = reader.locator("#numbers td:nth-child(4).best")
    assert float(best.first.get_attribute("data-value")) == min(column(reader, 4))


def test_the_filter_leaves_what_it_names(reader: Any) -> None:
    reader.fill("#filter", "regression")
    assert reader.locator("#numbers tbody tr:not(.baseline)").count() == 1
    reader.fill("#filter", "")


def test_the_legend_toggles_a_run(reader: Any) -> None:
    image = "() => document.querySelector('#plots canvas').toDataURL()"
    button = reader.locator("#legend button[data-run]").nth(1)
    before, rows = reader.evaluate(image), reader.locator("#readout tbody tr").count()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert reader.evaluate(image) != before
    assert reader.locator("#readout tbody tr").count() == rows - 1
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert reader.evaluate(image) == before


def test_keys_move_the_cursor_and_the_camera_follows(reader: Any) -> None:
    reader.locator("#cursor").focus()
    before = reader.locator("#readout").inner_text()
    for _ in range(20):
        reader.keyboard.press("ArrowRight")
    assert reader.locator("#cursor").input_value() == "20"
    assert reader.locator("#readout").inner_text() != before
    assert reader.locator("#picture").evaluate("box => box.style.backgroundImage").startswith('url("data:image/jpeg')


def test_dragging_zooms_and_a_double_click_shows_all(reader: Any) -> None:
    image = "() => document.querySelector('#plots canvas').toDataURL()"
    canvas = reader.locator("#plots canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["y"] + 40
    reader.mouse.move(box["x"] + 0.3 * box["width"], middle)
    before = reader.evaluate(image)
    reader.mouse.down()
    reader.mouse.move(box["x"] + 0.6 * box["width"], middle)
    reader.mouse.up()
    reader.mouse.move(box["x"] + 0.3 * box["width"], middle)
    assert reader.evaluate(image) != before
    reader.mouse.dblclick(box["x"] + 0.3 * box["width"], middle)
    reader.mouse.move(box["x"] + 0.3 * box["width"] + 1, middle)
    reader.mouse.move(box["x"] + 0.3 * box["width"], middle)
    assert reader.evaluate(image) == before


def test_a_link_of_the_board_opens_its_card(reader: Any) -> None:
    reader.locator("table.board a").first.click()
    assert reader.locator(f"{reader.evaluate('location.hash')} .inside").is_visible()


def test_the_button_turns_the_page_dark(reader: Any) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = reader.evaluate(ground)
    reader.locator("#theme").click()
    assert reader.locator("#theme").get_attribute("aria-pressed") == "true"
    assert reader.evaluate(ground) != light
    reader.locator("#theme").press("Enter")
    assert reader.evaluate(ground) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(reader: Any, scheme: str) -> None:
    reader.emulate_media(color_scheme=scheme)
    reader.evaluate("() => { delete document.documentElement.dataset.theme; }")
    reader.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert reader.evaluate(CONTRAST) == []


def test_a_phone_scrolls_in_one_direction(reader: Any) -> None:
    reader.set_viewport_size({"width": 390, "height": 844})
    assert reader.evaluate("() => document.documentElement.scrollWidth") == 390
    assert reader.locator("table.board").first.is_visible()


def test_nothing_was_said_by_the_end(reader: Any) -> None:
    assert reader.told == []
