"""How fast the review page is: a case opens, the next one appears, a step of scrolling is drawn.

    python benchmarks/review_page.py [--cases 5] [--steps 60] [--json FILE]

The real server over synthetic chests, and Chromium without a screen that draws in software. Wall
times are of this machine, whatever else it does; the load is told beside them. The next case is
asked for at once, and after a while in which the page has made it ready, by turns; each time the
server has to decode its CT anew. Memory is the proportional set size of Chromium's processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_nifti
from resmtnet.server.launch import ServerOptions, free_port, running_server

CENTRE = (-75.0, 0.0, 20.0)
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--use-gl=angle", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--no-first-run", "--disable-background-networking"),
    "--enable-precise-memory-info",
)
PREPARED_AFTER_S = 8
DRAWN = "() => window.resmtnetViewer && window.resmtnetViewer.spec && !window.resmtnetViewer.state"
SCROLL = """async steps => {
  const viewer = window.resmtnetViewer, gl = viewer.nv.gl, pixel = new Uint8Array(4);
  const took = [];
  for (let n = 0; n < steps; n++) {
    const began = performance.now();
    viewer.step(n % 20 < 10 ? 1 : -1);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits for the drawing
    took.push(performance.now() - began);
    await new Promise(done => requestAnimationFrame(done));
  }
  return took;
}"""


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=320, help="voxels along i and j")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_cases(folder / "studies", given.cases, given.size)
        os.environ["RESMTNET_CACHE_DIR"] = str(folder / "cache")
        options = ServerOptions(str(folder / "studies"), port=free_port())
        with running_server(options, timeout_s=400.0) as url:
            for case in names:
                answer(url, case, given.size)
            cache = folder / "cache"
            figures = measure(url, names, given.steps, lambda: forget_voxels(cache))
    figures["load"] = os.getloadavg()[0]
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


def write_cases(folder: Path, count: int, size: int) -> list[str]:
    """Write studies with one nodule."""
    nodules = [NoduleSpec(10.0, "solid", centre_lps_mm=CENTRE)]
    shape = (120, size, size)
    phantom = make_phantom(seed=3, shape_kji=shape, nodules=nodules, centre_lps_mm=CENTRE)
    names = [f"case-{n}" for n in range(count)]
    write_nifti(phantom, folder / f"{names[0]}.nii.gz")
    for name in names[1:]:
        shutil.copy(folder / f"{names[0]}.nii.gz", folder / f"{name}.nii.gz")
    return names


def forget_voxels(cache: Path) -> None:
    """Remove decoded CTs, so that the server has to decode them again."""
    for path in cache.rglob("*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def answer(url: str, case: str, size: int) -> None:
    """Let the model answer the nodule, which lies in the middle."""
    params = json.dumps({"foreground": [[size // 2, size // 2, 60]]})
    body = urlencode({"params": params}).encode()
    request = Request(f"{url}/infer/resmtnet_click?image={case}&output=json", body)
    with urlopen(request, timeout=600) as reply:
        reply.read()


def measure(url: str, names: list[str], steps: int, forget: Callable[[], None]) -> dict[str, Any]:
    """Open the cases one after the other, and scroll in the last one.

    Args:
        url: of the server.
        names: of the cases.
        steps: of scrolling.
        forget: removes the decoded CTs of the server's cache.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        # Studies that are open are kept for this reader, so that "next" goes round among them.
        name = {"name": "resmtnet-reader", "value": "Bench", "url": f"{url}/resmtnet"}
        context.add_cookies([name])
        page = context.new_page()
        page.set_default_timeout(300_000)
        opened: list[float] = []
        for case in names:
            began = time.perf_counter()
            page.goto(f"{url}/resmtnet/case/{quote(case)}", wait_until="commit")
            page.wait_for_function(DRAWN)
            opened.append(time.perf_counter() - began)
        following: dict[str, list[float]] = {"next_case_s": [], "next_case_prepared_s": []}
        for n in range(2 * len(names[1:])):
            took = following["next_case_prepared_s" if n % 2 else "next_case_s"]
            if n % 2:
                page.wait_for_timeout(PREPARED_AFTER_S * 1000)
            here = page.url
            began = time.perf_counter()
            page.get_by_role("button", name="Next study").click()
            page.wait_for_function("before => location.href !== before", arg=here)
            page.wait_for_function(DRAWN)
            took.append(time.perf_counter() - began)
            forget()
        steps_ms = page.evaluate(SCROLL, steps)
        memory = memory_mb(browser)
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        browser.close()
    return {
        "first_case_s": opened[0],
        "case_s": statistics.median(opened[1:] or opened),
        **{name: statistics.median(took) for name, took in following.items() if took},
        "scroll_step_ms": statistics.median(steps_ms),
        "frames_a_second": 1000 / statistics.median(steps_ms),
        "browser_heap_mb": heap / 1e6,
        "browser_memory_mb": memory,
    }


def memory_mb(browser: Any) -> dict[str, float]:
    """Return the proportional set size of the browser's processes by kind, MB."""
    session = browser.new_browser_cdp_session()
    found: dict[str, float] = {}
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        rollup = Path(f"/proc/{process['id']}/smaps_rollup").read_text()
        kilobytes = next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
        kind = str(process["type"])
        found[kind] = found.get(kind, 0.0) + kilobytes * 1024 / 1e6
    return found | {"all": sum(found.values())}


if __name__ == "__main__":
    main()
