// Draws a CT in three planes with NiiVue; the axes of a nodule, with handles, lie above it as SVG.
// Points come and go as RAS mm. What the reader does is told as events; nothing is kept here.

const AXIAL = 0, CORONAL = 1, SAGITTAL = 2;
const LAYOUT = [
  { sliceType: AXIAL, position: [0, 0, 0.64, 1] },
  { sliceType: CORONAL, position: [0.645, 0, 0.355, 0.495] },
  { sliceType: SAGITTAL, position: [0.645, 0.505, 0.355, 0.495] },
];
const ACCENT = [0.16, 0.84, 0.78, 1];
const SVG = "http://www.w3.org/2000/svg";

function unpack(bytes, count) {
  const mask = new Uint8Array(count);
  for (let n = 0; n < count; n++) mask[n] = (bytes[n >> 3] >> (7 - (n & 7))) & 1;
  return mask;
}

function pack(mask) {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  for (let n = 0; n < mask.length; n++) if (mask[n]) bytes[n >> 3] |= 128 >> (n & 7);
  let text = "";
  for (let n = 0; n < bytes.length; n += 8192)
    text += String.fromCharCode.apply(null, bytes.subarray(n, n + 8192));
  return btoa(text);
}

export default {
  props: { niivue: String },
  template: `
    <div class="viewer" @wheel.capture.prevent.stop="onWheel">
      <canvas ref="canvas" class="viewer-canvas" tabindex="0"
        aria-label="CT in three planes: axial, coronal, sagittal"></canvas>
      <svg ref="svg" class="viewer-marks" aria-hidden="true"></svg>
      <div class="viewer-tag viewer-tag-a">Axial</div>
      <div class="viewer-tag viewer-tag-c">Coronal</div>
      <div class="viewer-tag viewer-tag-s">Sagittal</div>
      <div class="viewer-place" aria-live="off">{{ place }}</div>
      <div v-if="hint" class="viewer-hint" role="status">{{ hint }}</div>
      <div v-if="state" class="viewer-state" :class="'is-' + kind" role="status">{{ state }}</div>
    </div>`,
  data: () => ({ state: "Loading the picture", kind: "loading", place: "", hint: "" }),
  async mounted() {
    this.spec = null;
    this.range = [-1350, 150];
    this.shown = { contour: true, axes: true };
    this.tool = "";
    this.started = this.start();
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.$refs.canvas);
    window.resmtnetViewer = this;  // for the tests and the benchmark
  },
  unmounted() {
    this.observer.disconnect();
    if (this.nv) {
      this.nv.cleanup?.();
      this.nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    }
  },
  methods: {
    async start() {
      try {
        const { Niivue, NVImage } = await import(this.niivue);
        this.NVImage = NVImage;
        this.nv = new Niivue({
          dragAndDropEnabled: false, backColor: [0.035, 0.043, 0.055, 1], logLevel: "error",
          crosshairColor: [0.3, 0.48, 0.66, 1], crosshairWidth: 0.25, crosshairWidthUnit: "mm",
          crosshairGap: 12, isRadiologicalConvention: true, fontColor: [0.75, 0.8, 0.86, 1],
          fontMinPx: 11, fontSizeScaling: 0.18, multiplanarShowRender: 0, loadingText: "",
          clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", dragMode: 3,
          isSliceMM: false, penSize: 3, isAntiAlias: false, show3Dcrosshair: false,
        });
        await this.nv.attachToCanvas(this.$refs.canvas);
        this.nv.setCustomLayout(LAYOUT);
        this.nv.drawOpacity = 0;
        this.nv.setDrawColormap({
          R: [0, 40, 0], G: [0, 214, 0], B: [0, 199, 0], A: [0, 255, 0], I: [0, 1, 2],
          labels: ["", "nodule", ""], min: 0, max: 2,
        });
        this.nv.onLocationChange = () => this.onMove();
        this.nv.onMouseUp = () => this.onMouseUp();
        this.nv.drawScene = this.unless(() => this.quiet, this.nv.drawScene.bind(this.nv));
        this.nv.drawScene = this.after(this.nv.drawScene, () => this.marks());
        this.$refs.canvas.addEventListener("pointerdown", (event) => this.onPress(event), true);
        this.$refs.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      } catch (error) {
        this.fail("The picture cannot be drawn: " + (error?.message || error));
      }
    },
    unless(holds, call) { return (...given) => (holds() ? undefined : call(...given)); },
    after(call, then) {
      return (...given) => { const result = call(...given); then(); return result; };
    },
    fail(told) {
      this.state = told; this.kind = "error";
      this.$emit("failed", { told });
    },
    // -- what is shown ---------------------------------------------------------------------
    async show(spec) {
      // spec: {key, url, mask, at, axes: {long, short} | null, hint,
      //        points: [{at, name, kind, chosen}]}
      // A later call takes over: what an earlier one still waits for is not shown any more.
      const turn = this.turn = (this.turn || 0) + 1, late = () => turn !== this.turn;
      const began = performance.now(), other = !this.spec || this.spec.url !== spec.url;
      const wait = (url) => fetch(url, { cache: "no-store" }).catch((error) => error);
      const asked = other && wait(spec.url), mask = spec.mask && wait(spec.mask);
      await this.started;
      if (!this.nv || late()) return;
      this.setTool("");  // now, and not when the picture is there: the reader may have taken one
      try {
        this.quiet = true;  // NiiVue draws after each step, which takes long without a GPU
        if (other) {
          this.state = "Loading the picture"; this.kind = "loading";
          const reply = await asked;
          if (!reply.ok) throw new Error(await this.reason(reply));
          const image = await this.NVImage.new(await reply.arrayBuffer(), "ct.nii", "gray");
          if (late()) return;
          image.cal_min = this.range[0]; image.cal_max = this.range[1];
          this.nv.closeDrawing();
          while (this.nv.volumes.length) this.nv.removeVolumeByIndex(0);
          this.nv.addVolume(image);
          this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
        }
        this.spec = spec;
        this.hint = spec.hint || "";
        await this.loadMask(await mask, late);
        if (late()) return;
        if (spec.at) this.goTo(spec.at);
        this.state = "";
        this.quiet = false;
        this.nv.drawScene();
        this.$emit("shown", { key: spec.key, ms: performance.now() - began });
      } catch (error) {
        if (!late()) this.fail("The picture cannot be loaded: " + (error?.message || error));
      } finally {
        if (!late()) this.quiet = false;
      }
    },
    async reason(reply) {
      if (reply instanceof Error) return reply.message;
      try { return (await reply.json()).detail; } catch { return `the server says ${reply.status}`; }
    },
    async loadMask(reply, late) {
      const bytes = reply?.ok ? new Uint8Array(await reply.arrayBuffer()) : null;
      if (late()) return;
      this.nv.closeDrawing();
      this.changed = false;
      if (!bytes) return;
      this.nv.createEmptyDrawing();
      this.nv.drawBitmap.set(unpack(bytes, this.nv.drawBitmap.length));
      this.nv.drawClearAllUndoBitmaps();
      this.nv.drawAddUndoBitmap();
      this.nv.refreshDrawing(true);
    },
    setMarks(spec) {
      if (!this.spec) return;
      Object.assign(this.spec, spec);
      this.marks();
    },
    setRange(low, high) {
      this.range = [low, high];
      const volume = this.nv?.volumes[0];
      if (!volume) return;
      volume.cal_min = low; volume.cal_max = high;
      this.nv.updateGLVolume();
    },
    setShown(contour, axes) {
      this.shown = { contour, axes };
      if (!this.nv) return;
      const draws = this.tool === "brush" || this.tool === "eraser";
      this.nv.setDrawOpacity(draws ? 0.3 : 0);
    },
    goTo(at) {
      this.nv.scene.crosshairPos = this.nv.mm2frac(at);
      this.nv.createOnLocationChange();
      this.nv.drawScene();
    },
    zoom(factor) {
      const [x, y, z, now] = this.nv.scene.pan2Dxyzmm;
      const next = Math.min(12, Math.max(0.5, now * factor));
      const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
      const change = now - next;
      this.nv.setPan2Dxyzmm([x + change * mm[0], y + change * mm[1], z + change * mm[2], next]);
    },
    redraw() { if (this.nv?.volumes?.length) this.nv.resizeListener?.(); },
    // -- tools -----------------------------------------------------------------------------
    setTool(name) {
      // "": look; "place": the next click is a nodule; "brush" and "eraser" draw on the slice
      this.tool = name;
      if (!this.nv) return;
      const draws = name === "brush" || name === "eraser";
      this.nv.setDrawingEnabled(draws);
      if (draws) this.nv.setPenValue(name === "brush" ? 1 : 0, false);
      this.setShown(this.shown.contour || draws, this.shown.axes);
      this.hint = {
        place: "Click the nodule", brush: "Draw on a slice; drag to paint",
        eraser: "Drag over what does not belong to the nodule",
      }[name] || this.spec?.hint || "";
      this.$refs.canvas.style.cursor = name ? "crosshair" : "default";
      this.$emit("tool", { name });
    },
    grow(step) {
      // One layer of voxels more or less, in the plane of the slices and, where they are as close,
      // across them.
      if (!this.nv?.volumes.length) return;
      if (!this.nv.drawBitmap) this.nv.createEmptyDrawing();
      const back = this.nv.volumes[0];
      const [nx, ny, nz] = [back.dimsRAS[1], back.dimsRAS[2], back.dimsRAS[3]];
      const [dx, dy, dz] = [back.pixDimsRAS[1], back.pixDimsRAS[2], back.pixDimsRAS[3]];
      const reach = 1.2 * Math.max(dx, dy);
      const steps = [[1, dx], [nx, dy], [nx * ny, dz]].filter(([, mm]) => mm <= reach);
      const old = this.nv.drawBitmap, next = new Uint8Array(old);
      const from = step > 0 ? 0 : 1;
      for (let n = 0; n < old.length; n++) {
        if ((old[n] ? 1 : 0) !== from) continue;
        for (const [stride] of steps)
          if ((old[n - stride] ? 1 : 0) !== from || (old[n + stride] ? 1 : 0) !== from) {
            next[n] = step > 0 ? 1 : 0;
            break;
          }
      }
      this.nv.drawBitmap = next;
      this.nv.drawAddUndoBitmap();
      this.nv.refreshDrawing(true);
      this.setShown(true, this.shown.axes);
      this.tellMask();
    },
    undoStroke() {
      this.nv.drawUndo();
      this.tellMask();
    },
    tellMask() {
      this.changed = true;
      const voxels = this.nv.drawBitmap.reduce((sum, value) => sum + (value ? 1 : 0), 0);
      this.$emit("mask", { key: this.spec.key, bits: pack(this.nv.drawBitmap), voxels });
    },
    // -- what the reader does --------------------------------------------------------------
    onPress(event) {
      if (this.tool !== "place" || event.button !== 0) return;
      event.stopImmediatePropagation(); event.preventDefault();
      const at = this.atPointer(event);
      if (!at) return;
      this.setTool("");
      this.goTo(at);
      this.$emit("place", { at });
    },
    onMouseUp() {
      if (this.tool === "brush" || this.tool === "eraser") setTimeout(() => this.tellMask(), 0);
    },
    onWheel(event) {
      if (!this.nv?.volumes.length) return;
      if (event.ctrlKey) { this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15); return; }
      const tile = this.tileAt(event);
      this.step(event.deltaY > 0 ? -1 : 1, tile ? tile.axCorSag : AXIAL);
    },
    step(by, plane = AXIAL) {
      const move = { [AXIAL]: [0, 0, by], [CORONAL]: [0, by, 0], [SAGITTAL]: [by, 0, 0] }[plane];
      this.nv.moveCrosshairInVox(...move);
    },
    onMove() {
      const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
      const volume = this.nv.volumes[0];
      if (!volume) return;
      const vox = this.nv.frac2vox(this.nv.scene.crosshairPos, 0);
      const hu = Math.round(volume.getValue(vox[0], vox[1], vox[2], 0));
      const lps = [-mm[0], -mm[1], mm[2]].map((x) => x.toFixed(0)).join(", ");
      this.place = `${lps} mm   ${hu} HU   ${this.range[1] - this.range[0]} / ` +
        `${(this.range[1] + this.range[0]) / 2}`;
      clearTimeout(this.telling);
      this.telling = setTimeout(() => this.$emit("moved", { at: [...mm].slice(0, 3) }), 300);
    },
    // -- marks above the picture -----------------------------------------------------------
    canvasXY(event) {
      const box = this.$refs.canvas.getBoundingClientRect(), scale = this.$refs.canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    },
    tileAt(event) {
      const [x, y] = this.canvasXY(event);
      return this.nv.screenSlices.find((tile) => {
        const [left, top, width, height] = tile.leftTopWidthHeight;
        return x >= left && y >= top && x <= left + width && y <= top + height;
      });
    },
    atPointer(event) {
      const frac = this.nv.canvasPos2frac(this.canvasXY(event));
      if (!frac || frac[0] < 0) return null;
      return [...this.nv.frac2mm(frac)].slice(0, 3);
    },
    project(at, plane) {
      return this.projectFrac(this.nv.mm2frac(at), plane);
    },
    projectFrac(given, plane) {
      const frac = [...given], normal = { [AXIAL]: 2, [CORONAL]: 1, [SAGITTAL]: 0 }[plane];
      frac[normal] = this.nv.scene.crosshairPos[normal];  // the slice that is shown
      const found = this.nv.frac2canvasPosWithTile(frac, plane);
      if (!found) return null;
      const tile = this.nv.screenSlices[found.tileIndex];
      if (!tile || tile.axCorSag !== plane) return null;
      const scale = this.$refs.canvas.width / this.$refs.canvas.getBoundingClientRect().width;
      return found.pos.map((x) => x / scale);
    },
    marks() {
      const svg = this.$refs.svg;
      if (!svg || !this.nv?.volumes?.length || this.dragging) return;
      svg.replaceChildren();
      const here = this.nv.frac2mm(this.nv.scene.crosshairPos);
      const volume = this.nv.volumes[0];
      const near = Math.max(volume.pixDimsRAS[3], 1.0);
      for (const point of this.spec?.points || []) {
        if (Math.abs(point.at[2] - here[2]) > Math.max(near, 4)) continue;
        const at = this.inside(point.at) && this.project(point.at, AXIAL);
        if (!at) continue;
        const mark = this.draw("g", { class: `mark mark-${point.kind}` });
        mark.append(this.made("circle", { cx: at[0], cy: at[1], r: 11 }));
        const name = this.made("text", { x: at[0] + 14, y: at[1] + 4 });
        name.textContent = point.name;
        mark.append(name);
      }
      if (this.shown.contour && this.nv.drawBitmap)
        for (const plane of [AXIAL, CORONAL, SAGITTAL]) this.contour(plane);
      const axes = this.shown.axes && this.spec?.axes;
      if (!axes) return;
      for (const name of ["long", "short"]) {
        const ends = axes[name];
        if (!ends || Math.abs(ends[0][2] - here[2]) > near) continue;
        const [one, other] = ends.map((end) => this.project(end, AXIAL));
        if (!one || !other) continue;
        this.draw("line", { class: `axis axis-${name}`, x1: one[0], y1: one[1], x2: other[0], y2: other[1] });
        [one, other].forEach((at, n) => this.handle(at, name, n));
      }
    },
    contour(plane) {
      // The edges between voxels of the mask and others, in the slice that is shown.
      const volume = this.nv.volumes[0], mask = this.nv.drawBitmap;
      const size = volume.dimsRAS.slice(1, 4), strides = [1, size[0], size[0] * size[1]];
      const normal = { [AXIAL]: 2, [CORONAL]: 1, [SAGITTAL]: 0 }[plane];
      const [u, v] = [0, 1, 2].filter((axis) => axis !== normal);
      const here = this.nv.frac2vox(this.nv.scene.crosshairPos, 0), slice = here[normal];
      const near = [u, v].map((axis) => here[axis] + (here[axis] + 1 < size[axis] ? 0 : -1));
      const corner = (a, b) => {
        const vox = [0, 0, 0];
        vox[u] = a; vox[v] = b; vox[normal] = slice;
        return this.projectFrac(this.nv.vox2frac(vox), plane);
      };
      // Where three voxels beside the crosshair lie says where all of the slice do.
      const zero = corner(near[0], near[1]), right = corner(near[0] + 1, near[1]);
      const up = corner(near[0], near[1] + 1);
      if (!zero || !right || !up) return;
      const at = (a, b) => [0, 1].map((n) => zero[n] + (a - 0.5 - near[0]) * (right[n] - zero[n]) +
        (b - 0.5 - near[1]) * (up[n] - zero[n])).map((x) => x.toFixed(1)).join(" ");
      const is = (a, b) => a >= 0 && b >= 0 && a < size[u] && b < size[v] &&
        mask[slice * strides[normal] + a * strides[u] + b * strides[v]] > 0;
      let path = "";
      for (let b = 0; b <= size[v]; b++)
        for (let a = 0; a <= size[u]; a++) {
          const inside = is(a, b);
          if (inside !== is(a - 1, b)) path += `M${at(a, b)}L${at(a, b + 1)}`;
          if (inside !== is(a, b - 1)) path += `M${at(a, b)}L${at(a + 1, b)}`;
        }
      if (path) this.draw("path", { class: "contour", d: path });
    },
    handle(at, name, n) {
      const dot = this.draw("circle", { class: `handle handle-${name}`, cx: at[0], cy: at[1], r: 6, "data-end": `${name}-${n}` });
      dot.addEventListener("pointerdown", (event) => {
        event.preventDefault(); event.stopPropagation();
        dot.setPointerCapture(event.pointerId);
        const move = (moved) => {
          const to = this.atPointer(moved);
          if (!to) return;
          const ends = this.spec.axes[name];
          ends[n] = [to[0], to[1], ends[n][2]];
          this.marks();
          this.dragging = true;
          const line = this.$refs.svg.querySelector(`.axis-${name}`);
          const place = this.project(ends[n], AXIAL);
          if (place && line) {
            line.setAttribute(n ? "x2" : "x1", place[0]); line.setAttribute(n ? "y2" : "y1", place[1]);
            dot.setAttribute("cx", place[0]); dot.setAttribute("cy", place[1]);
          }
        };
        const end = () => {
          dot.removeEventListener("pointermove", move); dot.removeEventListener("pointerup", end);
          this.dragging = false;
          this.marks();
          this.$emit("axes", { key: this.spec.key, long: this.spec.axes.long, short: this.spec.axes.short });
        };
        this.dragging = true;
        dot.addEventListener("pointermove", move); dot.addEventListener("pointerup", end);
      });
    },
    inside(at) {
      const frac = this.nv.mm2frac(at);
      return frac[0] >= 0 && frac[1] >= 0 && frac[2] >= 0 && frac[0] <= 1 && frac[1] <= 1 && frac[2] <= 1;
    },
    made(kind, attributes) {
      const element = document.createElementNS(SVG, kind);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    },
    draw(kind, attributes) {
      const element = this.made(kind, attributes);
      this.$refs.svg.append(element);
      return element;
    },
  },
};
