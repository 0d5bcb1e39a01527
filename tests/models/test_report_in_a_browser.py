"""The page of a report in Debian's Chromium, where that is installed: all of it is seen."""

import html
import json
import re
import shutil
import subprocess

import pytest
from reports import CHARTS, HOSTILE, report

MEASURE = """
<script>
frame.onload = () => {
  const page = frame.contentDocument, box = (e) => e.getBoundingClientRect();
  const charts = [...page.querySelectorAll("svg")].map((e) => [box(e).width, box(e).height]);
  const right = Math.max(...[...page.querySelectorAll("section, svg")].map((e) => box(e).right));
  found.textContent = JSON.stringify({charts, right, wide: page.body.scrollWidth});
};
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("number, name", [(40, "layer{}"), (len(HOSTILE), HOSTILE)])
def test_every_chart_is_seen_and_nothing_runs_over(number, name, width, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs Chromium")
    page = html.escape(report(number, name=name).to_html())
    frame = f'<iframe id="frame" style="width:{width}px;height:9000px" srcdoc="{page}"></iframe>'
    file = tmp_path / "frame.html"
    file.write_text(f'<pre id="found"></pre>{frame}{MEASURE}', encoding="utf-8")
    switches = "--headless --no-sandbox --disable-gpu --disable-background-networking"
    done = subprocess.run(
        [browser, *switches.split(), "--enable-logging=stderr", "--virtual-time-budget=20000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(re.findall(r'<pre id="found">(.*?)</pre>', done.stdout)[0]))
    assert len(found["charts"]) == len(CHARTS)
    for across, down in found["charts"]:
        assert across > 0.75 * min(width, 550) and down > 60
    assert found["right"] <= width and found["wide"] <= width
