"""The page's frame: markup, colours for light and dark, and the script that draws the charts.

Colours of the series are those of Okabe and Ito, which people who see colours differently can tell apart.
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
<script type="application/json" id="data">$data</script>
$plotly
<script>$script</script>
</body>
</html>
"""

STYLE = """
:root { --back:#fbfbfa; --card:#fff; --ink:#1c2024; --soft:#656b73; --line:#dfe2e6; --grid:#eceef0;
  --valid:#0b7a4b; --invalid:#b3261e; --unknown:#9a6300; --blue:#0072b2; --orange:#d55e00; --grey:#8a9099;
  --band:rgba(213,94,0,.13); }
@media (prefers-color-scheme: dark) { :root { --back:#131518; --card:#1b1e22; --ink:#e8eaed; --soft:#9aa1aa;
  --line:#32373d; --grid:#272b30; --valid:#4cc38a; --invalid:#ff7b72; --unknown:#e3b341; --blue:#56b4e9;
  --orange:#f0883e; --grey:#8b949e; --band:rgba(240,136,62,.18); } }
* { box-sizing:border-box }
body { margin:0; background:var(--back); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:1080px; margin:0 auto; padding:28px 20px 60px }
header { margin:8px 0 18px }
.kicker { margin:0; color:var(--soft) }
h1 { margin:2px 0; font-size:46px; letter-spacing:.01em; line-height:1.1 }
h2 { font-size:18px; margin:4px 0 10px }
.chart + h2 { margin-top:22px }
.headline { margin:4px 0 0; font-size:17px }
section { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:16px 20px; margin:0 0 16px }
.valid { color:var(--valid) } .invalid { color:var(--invalid) }
.unknown { color:var(--unknown) } .none { color:var(--soft) }
.badge { font-weight:600; white-space:nowrap }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th, td { text-align:left; padding:6px 14px 6px 0; border-top:1px solid var(--line); vertical-align:top }
thead th { border-top:0; color:var(--soft); font-weight:500; white-space:nowrap }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align:right; white-space:nowrap }
.numbers td:first-child { white-space:nowrap }
.part td { color:var(--soft); padding-top:14px; text-align:left !important }
.about th { color:var(--soft); font-weight:500; width:110px; white-space:nowrap }
.about td { overflow-wrap:anywhere }
.scroll { overflow-x:auto }
.chart { height:330px } .chart.low { height:230px }
.pick { margin:0; color:var(--soft) }
select { font:inherit; color:inherit; background:var(--card); border:1px solid var(--line); border-radius:6px;
  padding:2px 6px }
code { font:13px/1.4 ui-monospace,"SF Mono",Menlo,Consolas,monospace; overflow-wrap:anywhere }
.because { font-size:17px; border-left:4px solid var(--invalid); padding-left:12px; margin:6px 0 14px;
  overflow-wrap:anywhere }
.times { white-space:nowrap }
.faults { padding-left:18px; margin:0 } .faults li { margin:0 0 8px } small { color:var(--soft) }
.timeline { width:100%; height:auto; margin:0 0 10px; font:13px ui-monospace,Menlo,Consolas,monospace }
.timeline .tick { stroke:var(--grid) } .timeline .time { fill:var(--soft); font-size:11px }
.timeline .op { fill:var(--ink); paint-order:stroke; stroke:var(--card); stroke-width:5px }
.timeline .read { fill:var(--blue) } .timeline .write { fill:var(--orange) }
.timeline .open { opacity:.45 } .timeline .fault { stroke:var(--invalid); stroke-dasharray:4 3 }
.timeline .faulttext { fill:var(--invalid); font-size:12px }
details summary { cursor:pointer; color:var(--soft); margin-top:10px }
@media print { body { background:#fff } section { break-inside:avoid } }
"""

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const pick = document.getElementById("operation");
for (const name of Object.keys(data.series)) pick.add(new Option(name, name));
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const span = Object.values(data.series)[0].t;
const step = span.length > 1 ? span[1] - span[0] : 1;
const range = [Math.min(0, span[0] - step), span[span.length - 1] + step];

function faultMarks() {
  const shapes = [], annotations = [];
  for (const fault of data.faults) {
    const colour = fault.took_effect ? css("--orange") : css("--grey");
    shapes.push({type: "line", xref: "x", yref: "paper", x0: fault.from, x1: fault.from, y0: 0, y1: 1,
      line: {color: colour, width: 1, dash: "dot"}});
    if (fault.to > fault.from)
      shapes.push({type: "rect", xref: "x", yref: "paper", x0: fault.from, x1: fault.to, y0: 0, y1: 1,
        fillcolor: css("--band"), line: {width: 0}, layer: "below"});
    if (fault.healed !== null)
      shapes.push({type: "line", xref: "x", yref: "paper", x0: fault.healed, x1: fault.healed, y0: 0, y1: 1,
        line: {color: css("--valid"), width: 1, dash: "dot"}});
    if (data.faults.length <= 12)
      annotations.push({xref: "x", yref: "paper", x: fault.from, y: 1, yanchor: "bottom", xanchor: "left",
        text: fault.text.replace(/</g, "&lt;") + (fault.took_effect ? "" : " (no effect)"), showarrow: false,
        font: {size: 11, color: colour}});
  }
  return {shapes, annotations};
}
function layout(extra) {
  const axis = {gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true};
  const base = {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 60, r: 12, t: 24, b: 40},
    font: {color: css("--ink"), family: "system-ui,-apple-system,Segoe UI,sans-serif", size: 12},
    hovermode: "x unified",
    hoverlabel: {bgcolor: css("--card"), bordercolor: css("--line"), font: {color: css("--ink")}},
    legend: {orientation: "h", x: 1, xanchor: "right", y: -0.14, traceorder: "normal"}};
  return {...base, ...extra, xaxis: {...axis, ...extra.xaxis}, yaxis: {...axis, ...extra.yaxis}};
}
const options = {responsive: true, displaylogo: false, displayModeBar: false};
const line = (x, y, name, colour, more) => ({x, y, name, mode: "lines+markers", marker: {size: 3, color: colour},
  line: {color: colour, width: 1.6}, connectgaps: false, text: y.map(spoken), hovertemplate: "%{text}", ...more});
const decades = {"10 us": 0.01, "100 us": 0.1, "1 ms": 1, "10 ms": 10, "100 ms": 100,
  "1 s": 1e3, "10 s": 1e4, "100 s": 1e5};
const ms = {type: "log", tickvals: Object.values(decades), ticktext: Object.keys(decades)};
const spoken = v => v === null ? "" : v < 1 ? `${Math.round(v * 1000)} us` : v < 1000 ? `${+v.toPrecision(3)} ms`
  : `${(v / 1000).toFixed(2)} s`;

function draw() {
  const s = data.series[pick.value];
  const seconds = {title: {text: "seconds from the start of the load"}, range};
  Plotly.react("latency", [line(s.t, s.max, "max", css("--grey")), line(s.t, s.p99, "p99", css("--orange")),
    line(s.t, s.p50, "p50", css("--blue"))],
    layout({...faultMarks(), xaxis: seconds, yaxis: ms}), options);
  const area = (y, name, colour) => ({x: s.t, y, name, mode: "lines", stackgroup: "all",
    line: {width: 0.8, color: colour}, hovertemplate: "%{y:,.1f}/s"});
  Plotly.react("rate", [area(s.ok, "ok", css("--blue")), area(s.failed, "failed", css("--invalid")),
    area(s.unknown, "unknown", css("--unknown"))],
    layout({...faultMarks(), xaxis: seconds, yaxis: {rangemode: "tozero", ticksuffix: "/s"}}), options);
  const nines = [1, 2, 10, 100, 1000, 10000, 100000];
  const colours = ["--blue", "--orange", "--valid", "--unknown", "--invalid", "--grey"];
  const curves = Object.entries(data.curves).map(([name, c], i) =>
    line(c.x, c.ms, name, css(colours[i % colours.length]), {mode: "lines", line: {width: 1.8,
      color: css(colours[i % colours.length]), dash: i < colours.length ? "solid" : "dash"}}));
  Plotly.react("curve", curves, layout({
    xaxis: {type: "log", tickvals: nines, ticktext: ["0", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999"],
      unifiedhovertitle: {text: "percentile"}},
    yaxis: ms}), options);
}
pick.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
"""
