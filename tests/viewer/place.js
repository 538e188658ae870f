// Opens images with their Segmentation in VolView and dwv, and writes where each lays what.
//   node place.js VOLVIEW CHROMIUM CASES OUT
// CASES is a list of {name, images, segmentation}; OUT (a folder) gets placed.json, by viewer and name, and pictures.
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const puppeteer = require('puppeteer-core');

const [volview, chromium, cases, out] = process.argv.slice(2);
const PATIENCE_MS = 100000;
const ARGUMENTS = [
  '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist', '--no-sandbox',
  '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  // The page asks for fonts of other hosts.
  '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];
const TYPES = { '.css': 'text/css', '.html': 'text/html', '.js': 'application/javascript', '.wasm': 'application/wasm' };
const MODULES = path.join(__dirname, 'node_modules');
// dwv is a module that asks for three others by name; their builds for browsers are scripts.
const shim = name => `data:text/javascript,export default window.${name}`;
const DWV = `<!doctype html><div id="layerGroup0" style="width: 400px; height: 300px"></div>
<script src="/modules/jszip/dist/jszip.min.js"></script>
<script src="/modules/konva/konva.min.js"></script>
<script src="/modules/magic-wand-tool/dist/magic-wand.min.js"></script>
<script type="importmap">${JSON.stringify({
  imports: { jszip: shim('JSZip'), konva: shim('Konva'), 'magic-wand-tool': shim('MagicWand') },
})}</script>`;

const inside = (root, name) => {
  const file = path.join(root, name);
  return file.startsWith(root) && fs.existsSync(file) && fs.statSync(file).isFile() ? file : undefined;
};

// Resolves to the address of all files: those of the cases by number, the modules, else those of VolView.
function serve(files) {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, 'http://viewer').pathname);
    const [, top, rest] = /^\/([^/]*)\/?(.*)$/.exec(name);
    if (name === '/dwv.html') return response.writeHead(200, { 'Content-Type': 'text/html' }).end(DWV);
    const parts = { files: () => files[parseInt(rest, 10)], modules: () => inside(MODULES, rest) };
    const file = (parts[top] ?? (() => inside(volview, name === '/' ? 'index.html' : name)))();
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': TYPES[path.extname(file)] || 'application/octet-stream' });
    fs.createReadStream(file).pipe(response);
  });
  return new Promise(resolve =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)),
  );
}

// VolView: the parent image and the segment group, which it has put on the grid of that image.
async function openInVolview(page, address, urls) {
  await page.goto(`${address}/?urls=[${urls.join(',')}]`, { timeout: PATIENCE_MS });
  const faults = new Promise((_, reject) => page.on('pageerror', fault => reject(new Error(fault.message ?? fault))));
  const done = page.waitForFunction(
    () => {
      const stores = document.querySelector('#app')?.__vue_app__?.config.globalProperties.$pinia?._s;
      const [id] = Object.keys(stores?.get('segmentGroup')?.metadataByID ?? {});
      if (id === undefined) return false;
      const { parentImage, segments } = stores.get('segmentGroup').metadataByID[id];
      const read = image => ({
        size: image.getDimensions(),
        spacing: Array.from(image.getSpacing()),
        origin: Array.from(image.getOrigin()),
        direction: Array.from(image.getDirection()),
        values: Array.from(image.getPointData().getScalars().getData()),
      });
      return {
        segments: segments.order.map(number => [number, segments.byValue[number].name]),
        image: read(stores.get('image-cache').imageById[parentImage].getVtkImageData()),
        mask: read(stores.get('segmentGroup').dataIndex[id]),
      };
    },
    { timeout: PATIENCE_MS, polling: 200 },
  );
  done.catch(() => {});
  return (await Promise.race([done, faults])).jsonValue();
}

async function openInDwv(page, address, urls) {
  await page.goto(`${address}/dwv.html`, { timeout: PATIENCE_MS });
  return page.evaluate(async given => {
    const dwv = await import('/modules/dwv/dist/dwv.min.js');
    const app = new dwv.App();
    app.init({ dataViewConfigs: { '*': [{ divId: 'layerGroup0' }] } });
    const load = some =>
      new Promise((resolve, reject) => {
        app.addEventListener('error', event => reject(event.error));
        app.addEventListener('load', resolve);
        app.loadURLs(some);
      });
    await load(given.slice(0, -1));
    await load(given.slice(-1));
    const [image, mask] = app.getDataIds().map(id => app.getData(id).image);
    const read = one => {
      const geometry = one.getGeometry();
      return {
        size: geometry.getSize().getValues(),
        spacing: geometry.getSpacing().getValues(),
        origins: geometry.getOrigins().map(at => [at.getX(), at.getY(), at.getZ()]),
        values: Array.from(one.getBuffer()),
      };
    };
    const segments = mask.getMeta().custom.segments.map(one => [one.number, one.label]);
    return { segments, image: read(image), mask: read(mask) };
  }, urls);
}

async function main() {
  const wanted = JSON.parse(fs.readFileSync(cases));
  const files = wanted.flatMap(one => [...one.images, one.segmentation]);
  const address = await serve(files);
  const url = file => `${address}/files/${files.indexOf(file)}.dcm`;
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'viewer-'));
  const browser = await puppeteer.launch({
    executablePath: chromium, userDataDir: profile, protocolTimeout: PATIENCE_MS, args: ARGUMENTS,
  });
  const placed = { dwv: {}, volview: {} };
  try {
    for (const [viewer, open] of Object.entries({ dwv: openInDwv, volview: openInVolview })) {
      for (const { name, images, segmentation } of wanted) {
        const page = await browser.newPage();
        const failed = error => ({ failed: String(error?.message ?? error) });
        placed[viewer][name] = await open(page, address, [...images, segmentation].map(url)).catch(failed);
        await page.screenshot({ path: path.join(out, `${viewer}-${name}.png`) });
        await page.close();
      }
    }
  } finally {
    fs.writeFileSync(path.join(out, 'placed.json'), JSON.stringify(placed));
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1); });
