"use strict";
// One video in 3D: tracked points with trails, the first frame's depth as a cloud, camera path, hands. Every buffer is allocated
// once and rewritten in place; a frame is drawn with one call per layer.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const bytes = Uint8Array.from(atob(D.blob), (c) => c.charCodeAt(0));
const KINDS = { i2: Int16Array, u1: Uint8Array, f4: Float32Array };
const A = Object.fromEntries(Object.entries(D.arrays).map(([name, [kind, length, offset]]) => [name, new KINDS[kind](bytes.buffer, offset, length)]));
const { Renderer, Camera, Transform, Geometry, Program, Mesh, Orbit, Vec3 } = OGL;
const SIDES = [[64 / 255, 224 / 255, 1], [1, 96 / 255, 208 / 255]], TRAIL = 6;
const world = (array, i, out, at) => { for (let k = 0; k < 3; k++) out[at + k] = array[3 * i + k] * D.unit_per_step + D.center[k]; };

$("title").textContent = D.video;
$("about").textContent = [D.worth.tier && `tier ${D.worth.tier}, scale ${D.worth.scale}, pose ${D.worth.pose}`, `lengths in ${D.unit}`, `${D.points.toLocaleString("en")} points per window at most`, D.note].filter(Boolean).join("; ");
document.title = `${D.video} in 3D`;

let renderer;
try {
  renderer = new Renderer({ canvas: $("canvas"), dpr: Math.min(devicePixelRatio, 2), antialias: true, alpha: false });
  if (!renderer.gl) throw new Error("no WebGL");
} catch (error) {
  $("trouble").hidden = false;
  $("trouble").textContent = "This browser gives the page no WebGL: try another one, or `videolift view` with the rerun viewer.";
  throw error;
}
const gl = renderer.gl;
gl.clearColor(0.063, 0.078, 0.102, 1);
const camera = new Camera(gl, { fov: 50, near: D.extent * 1e-3, far: D.extent * 30 });
const root = new Transform();
root.rotation.x = Math.PI; // OpenCV's y points down, the viewer's up
const VERTEX = `attribute vec3 position; attribute vec3 color; uniform mat4 modelViewMatrix, projectionMatrix; uniform float size, zoom; varying vec3 shade;
void main() { vec4 view = modelViewMatrix * vec4(position, 1.0); shade = color; gl_Position = projectionMatrix * view; gl_PointSize = clamp(size * zoom / -view.z, 1.5, 14.0); }`;
const FRAGMENT = `precision highp float; varying vec3 shade; uniform float round, opacity;
void main() { if (round > 0.5 && distance(gl_PointCoord, vec2(0.5)) > 0.5) discard; gl_FragColor = vec4(shade, opacity); }`;
function layer(name, mode, capacity, { size = 0.006, round = 0, opacity = 1 } = {}) {
  const position = new Float32Array(3 * capacity), color = new Float32Array(3 * capacity);
  const geometry = new Geometry(gl, { position: { size: 3, data: position, usage: gl.DYNAMIC_DRAW }, color: { size: 3, data: color, usage: gl.DYNAMIC_DRAW } });
  const program = new Program(gl, { vertex: VERTEX, fragment: FRAGMENT, transparent: opacity < 1, uniforms: { size: { value: size * D.extent }, zoom: { value: 1 }, round: { value: round }, opacity: { value: opacity } } });
  const mesh = new Mesh(gl, { geometry, program, mode, frustumCulled: false });
  mesh.setParent(root);
  return { name, mesh, geometry, position, color, capacity, program, shown: true,
    finish(count) { geometry.setDrawRange(0, count); mesh.visible = this.shown && count > 0; this.count = count; geometry.attributes.position.needsUpdate = geometry.attributes.color.needsUpdate = true; } };
}
const L = {
  cloud: layer("depth cloud", gl.POINTS, Math.max(1, D.cloud_most), { size: 0.0055 }),
  points: layer("points", gl.POINTS, Math.max(1, D.points), { size: 0.005, round: 1 }),
  trails: layer("trails", gl.LINES, Math.max(2, 2 * TRAIL * D.points), { opacity: 0.7 }),
  path: layer("camera", gl.LINES, 2 * D.frames + 32),
  bones: layer("hands", gl.LINES, 2 * (2 * D.bones.length + 6)),
  joints: layer("", gl.POINTS, 42, { size: 0.008, round: 1 }),
};

function put(at, to, from, i, color, c) { for (let k = 0; k < 3; k++) { to[3 * at + k] = from[i + k]; color[3 * at + k] = c[k]; } }
function turbo(x) { // blue over green to red
  return [Math.min(1, Math.max(0, 1.5 - Math.abs(4 * x - 3))), Math.min(1, Math.max(0, 1.5 - Math.abs(4 * x - 2))), Math.min(1, Math.max(0, 1.5 - Math.abs(4 * x - 1)))];
}
const scratch = new Float32Array(6), pale = [0.62, 0.68, 0.74], grey = [0.55, 0.6, 0.66], bright = [1, 0.85, 0.3];
const shades = Array.from({ length: 256 }, (_, i) => i / 255 < D.still ? pale : turbo(i / 255));
let loaded = -1;
function tileOf(frame) { for (let t = D.tiles.length - 1; t >= 0; t--) if (D.tiles[t].start <= frame) return frame < D.tiles[t].start + D.length ? t : -1; return -1; }

function loadTile(number) { // once per window: cloud and image
  loaded = number;
  if (number < 0) { for (const name of ["cloud", "points", "trails"]) L[name].finish(0); $("image").removeAttribute("src"); return; }
  const tile = D.tiles[number];
  for (let i = 0; i < tile.cloud; i++) {
    world(A.cloud_xyz, tile.cloud_at + i, L.cloud.position, 3 * i);
    for (let k = 0; k < 3; k++) L.cloud.color[3 * i + k] = A.cloud_rgb[3 * (tile.cloud_at + i) + k] / 255;
  }
  L.cloud.finish(tile.cloud);
  follow(tile.middle);
  if (tile.image) $("image").src = `data:image/jpeg;base64,${tile.image}`;
}
let middle = null;
function follow(to) { // the orbit keeps its distance to what it looks at
  if (!to) return;
  if (middle && $("follow").checked) for (let k = 0; k < 3; k++) orbit.target[k] += (k ? -1 : 1) * (to[k] - middle[k]);
  middle = to;
}
function drawTracks(tile, step) {
  let points = 0, ends = 0;
  const { position, color } = L.points, trail = L.trails;
  for (let n = 0; n < tile.points; n++) {
    const at = (k) => tile.at + k * tile.points + n, shade = shades[A.heat[tile.heat_at + n]];
    if (!A.visible[at(step)]) continue;
    world(A.xyz, at(step), position, 3 * points);
    for (let k = 0; k < 3; k++) color[3 * points + k] = shade[k];
    points++;
    if (shade === pale) continue;
    for (let k = Math.max(0, step - TRAIL); k < step; k++) {
      if (!A.visible[at(k)] || !A.visible[at(k + 1)]) continue;
      world(A.xyz, at(k), trail.position, 3 * ends);
      world(A.xyz, at(k + 1), trail.position, 3 * ends + 3);
      for (let j = 0; j < 6; j++) trail.color[3 * ends + j] = shade[j % 3];
      ends += 2;
    }
  }
  L.points.finish(points);
  L.trails.finish(ends);
}
function drawCamera(frame) {
  let n = 0;
  const { position, color } = L.path, P = A.poses;
  const centre = (f, out, at) => { for (let k = 0; k < 3; k++) out[at + k] = P[16 * f + 4 * k + 3]; };
  for (let f = 0; f + 1 < D.frames; f++) {
    if (D.shots[f] !== D.shots[frame] || D.shots[f + 1] !== D.shots[frame]) continue; // another shot is another world
    if (!(P[16 * f] === P[16 * f] && P[16 * f + 16] === P[16 * f + 16])) continue;
    centre(f, scratch, 0); centre(f + 1, scratch, 3);
    put(n++, position, scratch, 0, color, grey); put(n++, position, scratch, 3, color, grey);
  }
  if (P[16 * frame] === P[16 * frame]) {
    const depth = 0.08 * D.extent, [fx, fy, cx, cy, W, H] = D.K;
    const corners = [[0, 0], [W, 0], [W, H], [0, H]].map(([u, v]) => {
      const c = [(u - cx) / fx * depth, (v - cy) / fy * depth, depth], out = [0, 0, 0];
      for (let k = 0; k < 3; k++) out[k] = P[16 * frame + 4 * k] * c[0] + P[16 * frame + 4 * k + 1] * c[1] + P[16 * frame + 4 * k + 2] * c[2] + P[16 * frame + 4 * k + 3];
      return out;
    });
    centre(frame, scratch, 0);
    corners.forEach((corner, i) => { put(n++, position, scratch, 0, color, bright); put(n++, position, corner, 0, color, bright); put(n++, position, corner, 0, color, bright); put(n++, position, corners[(i + 1) % 4], 0, color, bright); });
  }
  L.path.finish(n);
}
function drawHands(frame) {
  let n = 0, m = 0;
  for (let side = 0; side < 2 && A.joints; side++) {
    const base = (2 * frame + side) * 63, faint = A.interpolated[2 * frame + side] ? 0.45 : 1, c = SIDES[side].map((x) => x * faint);
    const there = (j) => A.joints[base + 3 * j] === A.joints[base + 3 * j];
    for (const [a, b] of D.bones) if (there(a) && there(b)) { put(n++, L.bones.position, A.joints, base + 3 * a, L.bones.color, c); put(n++, L.bones.position, A.joints, base + 3 * b, L.bones.color, c); }
    for (let j = 0; j < 21; j++) if (there(j)) put(m++, L.joints.position, A.joints, base + 3 * j, L.joints.color, c);
    const T = (2 * frame + side) * 16;
    if (A.wrists[T] !== A.wrists[T]) continue;
    for (let axis = 0; axis < 3; axis++) {
      for (let k = 0; k < 3; k++) { scratch[k] = A.wrists[T + 4 * k + 3]; scratch[3 + k] = scratch[k] + 0.05 * D.extent * A.wrists[T + 4 * k + axis]; }
      const rgb = [0.3, 0.3, 0.3]; rgb[axis] = 1;
      put(n++, L.bones.position, scratch, 0, L.bones.color, rgb); put(n++, L.bones.position, scratch, 3, L.bones.color, rgb);
    }
  }
  L.joints.shown = L.bones.shown;
  L.bones.finish(n); L.joints.finish(m);
}

const state = { frame: -1, playing: !matchMedia("(prefers-reduced-motion: reduce)").matches, clock: 0, scripting: [] };
function show(frame) {
  state.frame = frame;
  const number = tileOf(frame);
  if (number !== loaded) loadTile(number);
  if (number >= 0) drawTracks(D.tiles[number], frame - D.tiles[number].start);
  drawCamera(frame); drawHands(frame);
  $("frame").value = frame;
  $("where").textContent = `${(D.seconds[frame]).toFixed(2)} s, ${number < 0 ? "no window here" : `window ${number + 1} of ${D.tiles.length}, step ${frame - D.tiles[number].start + 1}`}`;
}
function play(on) { state.playing = on; $("play").textContent = on ? "Pause" : "Play"; $("play").setAttribute("aria-pressed", String(on)); state.clock = performance.now(); }
$("play").addEventListener("click", () => play(!state.playing));
$("frame").max = D.frames - 1;
$("frame").addEventListener("input", (event) => { play(false); show(+event.target.value); });
addEventListener("keydown", (event) => {
  if (event.target.matches("input, button")) return;
  const move = { ArrowRight: 1, ArrowLeft: -1, PageDown: D.length, PageUp: -D.length }[event.key];
  if (event.key === " ") { event.preventDefault(); play(!state.playing); }
  if (move) { event.preventDefault(); play(false); show(Math.min(D.frames - 1, Math.max(0, state.frame + move))); }
});
for (const one of Object.values(L)) {
  if (!one.name) continue;
  const box = document.createElement("input"), label = document.createElement("label");
  box.type = "checkbox"; box.checked = true;
  box.addEventListener("change", () => { one.shown = box.checked; one.finish(one.count); if (one === L.bones) drawHands(state.frame); });
  label.append(box, one.name);
  $("layers").append(label);
}
const css = (c) => `rgb(${c.map((x) => Math.round(255 * x)).join(", ")})`, percent = (share) => `${Math.round(100 * share)} %`;
const moving = shades.filter((shade) => shade !== pale).map(css);
for (const [colours, text] of [
  [[css(pale)], "point that stands still"],
  [moving, `point that moved ${percent(D.still * D.hot)} to ${percent(D.hot)} or more of its distance from the camera`],
  ...(A.joints ? [[[css(SIDES[0])], "left hand"], [[css(SIDES[1])], "right hand"]] : []),
  [[css(bright)], "camera"], [[css(grey)], "its path"],
]) {
  const entry = document.createElement("span"), swatch = document.createElement("i");
  swatch.style.background = colours.length > 1 ? `linear-gradient(90deg,${colours})` : colours[0];
  swatch.className = colours.length > 1 ? "scale" : "";
  entry.append(swatch, text);
  $("legend").append(entry);
}

const flip = (p) => new Vec3(p[0], -p[1], -p[2]);
camera.position.copy(flip(D.eye));
const orbit = new Orbit(camera, { element: $("canvas"), target: flip(D.target), maxDistance: D.extent * 10, minDistance: D.extent * 0.02 });
function resize() {
  const { clientWidth, clientHeight } = $("canvas").parentElement;
  renderer.setSize(clientWidth, clientHeight);
  $("canvas").style.width = $("canvas").style.height = "";
  camera.perspective({ aspect: clientWidth / Math.max(1, clientHeight) });
  for (const one of Object.values(L)) one.program.uniforms.zoom.value = gl.drawingBufferHeight;
}
addEventListener("resize", resize);
resize();
show(0);
play(state.playing);
function tick(now) {
  requestAnimationFrame(tick);
  const began = performance.now();
  if (state.playing && now - state.clock > 1000 / D.fps) { state.clock = now; show((state.frame + 1) % D.frames); }
  orbit.update();
  renderer.render({ scene: root, camera });
  state.scripting.push(performance.now() - began);
  if (state.scripting.length > 300) state.scripting.shift();
}
requestAnimationFrame(tick);
window.videolift = state;
document.documentElement.dataset.ready = "1";
