// Opens one study in OHIF as a reader does, and writes what the viewer then holds and shows.
//   node drive.js DIST ARCHIVE CHROMIUM STUDY_UID OUT
// OUT gets seen.json, a picture of the page after each step, and the canvas of each frame with and without layers.
const fs = require('fs');
const os = require('os');
const path = require('path');
const puppeteer = require('puppeteer-core');
const { serve } = require('./serve');

const [dist, archive, chromium, study, out] = process.argv.slice(2);
const PATIENCE_MS = 120000;
// Frames that are pictured, by their place in the viewer's stack.
const PICTURED = [0, 1, 3, 5, 6];
const SOFTWARE_GL = ['--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];
const QUIET = ['--no-sandbox', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

// Asks the page again and again. Dialogs ("Yes" opens a result, "Skip all" ends the tour) are answered meanwhile.
async function until(page, what, look, ...given) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await page.evaluate(look, ...given);
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await answerDialogs(page);
    await sleep(250);
  }
}

const answerDialogs = page =>
  page.evaluate(() => {
    for (const button of document.querySelectorAll('button')) {
      if (isYes(button)) {
        window.answered ||= button.textContent.trim() === 'Yes';
        button.click();
      }
    }
  });

// Double-clicks the thumbnail of the series of one modality.
async function open(page, modality) {
  for (const thumbnail of await page.$$('[data-cy^="study-browser-thumbnail"]')) {
    const text = await thumbnail.evaluate(element => element.innerText);
    if (new RegExp(`^${modality}\\b`).test(text.trim())) {
      await thumbnail.evaluate(element => element.scrollIntoView());
      return thumbnail.click({ count: 2 });
    }
  }
  throw new Error(`no thumbnail of a ${modality}`);
}

// What the canvas shows once two looks are alike.
async function canvas(page) {
  let before = null;
  for (let look = 0; look < 40; look++) {
    const now = await page.evaluate(() => {
      const id = services.viewportGridService.getActiveViewportId();
      const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
      viewport.render();
      return new Promise(resolve => setTimeout(() => resolve(viewport.getCanvas().toDataURL('image/png')), 250));
    });
    if (now === before) break;
    before = now;
  }
  return Buffer.from(before.split(',')[1], 'base64');
}

async function showFrame(page, index) {
  await page.evaluate(wanted => {
    const id = services.viewportGridService.getActiveViewportId();
    return services.cornerstoneViewportService.getCornerstoneViewport(id).setImageIdIndex(wanted);
  }, index);
  return whereItIs(page);
}

const whereItIs = page =>
  page.evaluate(() => {
    const id = services.viewportGridService.getActiveViewportId();
    return services.cornerstoneViewportService.getCornerstoneViewport(id).getCurrentImageId();
  });

const setVisible = (page, visible) =>
  page.evaluate(shown => {
    const id = services.viewportGridService.getActiveViewportId();
    for (const one of services.segmentationService.getSegmentationRepresentations(id)) {
      if (one.visible !== shown) services.segmentationService.toggleSegmentationRepresentationVisibility(id, one);
    }
  }, visible);

// Every label that the viewer holds, by the frame it lays it on, and each frame as it is drawn.
async function seeSegmentation(page) {
  await open(page, 'SEG');
  await until(page, 'the segmentation', () => {
    const id = services.viewportGridService.getActiveViewportId();
    // Until the question is answered it is only a preview.
    const open = window.answered && services.segmentationService.getSegmentationRepresentations(id).length > 0;
    return open && ![...document.querySelectorAll('button')].some(isYes);
  });
  const seen = await page.evaluate(() => {
    const [segmentation] = services.segmentationService.getSegmentations();
    const labelmap = segmentation.representationData.Labelmap;
    const frames = labelmap.imageIds.map(id => {
      const image = cornerstone.cache.getImage(id);
      return { on: image.referencedImageId, labels: Array.from(image.voxelManager.getScalarData()) };
    });
    return { segments: Object.values(segmentation.segments).map(one => [one.segmentIndex, one.label]), frames };
  });
  seen.drawn = [];
  for (const index of PICTURED) {
    seen.drawn.push([index, await showFrame(page, index)]);
    fs.writeFileSync(path.join(out, `layers-${index}.png`), await canvas(page));
  }
  await page.screenshot({ path: path.join(out, 'segmentation.png') });
  await setVisible(page, false);
  for (const index of PICTURED) {
    await showFrame(page, index);
    fs.writeFileSync(path.join(out, `plain-${index}.png`), await canvas(page));
  }
  return seen;
}

// Every measurement, read again after it was drawn: the viewer then takes the value from its own points.
async function seeReport(page) {
  await open(page, 'SR');
  await until(page, 'the measurements', () => services.measurementService.getMeasurements().length > 0);
  const uids = await page.evaluate(() => services.measurementService.getMeasurements().map(one => one.uid));
  const seen = [];
  for (const uid of uids) {
    await page.evaluate(one => {
      const id = services.viewportGridService.getActiveViewportId();
      services.measurementService.jumpToMeasurement(id, one);
    }, uid);
    const frame = await until(page, 'the frame of a measurement', one => {
      const id = services.viewportGridService.getActiveViewportId();
      const shown = services.cornerstoneViewportService.getCornerstoneViewport(id).getCurrentImageId();
      return shown === services.measurementService.getMeasurement(one).referencedImageId && shown;
    }, uid);
    await canvas(page);
    await page.screenshot({ path: path.join(out, `measurement-${seen.length}.png`) });
    seen.push(await page.evaluate((one, on) => {
      const { toolName, label, displayText, points } = services.measurementService.getMeasurement(one);
      const pixels = points.map(point => cornerstone.utilities.worldToImageCoords(on, point));
      return { tool: toolName, label, text: displayText.primary, on, pixels: pixels.map(pair => Array.from(pair)) };
    }, uid, frame));
  }
  return seen;
}

async function look(page, seen) {
  await page.goto(`${await serve(dist, archive)}/viewer?StudyInstanceUIDs=${study}`, { timeout: PATIENCE_MS });
  // Services answer once a mode was entered, which is when the study's series are listed.
  await page.waitForSelector('[data-cy^="study-browser-thumbnail"]', { timeout: PATIENCE_MS });
  seen.series = await until(page, 'the series and the first image', () => {
    const sets = window.services?.displaySetService.getActiveDisplaySets() ?? [];
    const id = window.services?.viewportGridService.getActiveViewportId();
    const viewport = id && services.cornerstoneViewportService.getCornerstoneViewport(id);
    const shown = viewport?.getCurrentImageId?.() && cornerstone.cache.getImage(viewport.getCurrentImageId());
    return ['SEG', 'SR'].every(one => sets.some(set => set.Modality === one)) && shown && sets.map(set => set.Modality);
  });
  seen.segmentation = await seeSegmentation(page);
  seen.measurements = await seeReport(page);
  seen.blank = await page.evaluate(() => /Something went wrong|Error Boundary/i.test(document.body.innerText));
}

async function main() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'viewer-'));
  const browser = await puppeteer.launch({
    executablePath: chromium,
    userDataDir: profile,
    protocolTimeout: PATIENCE_MS,
    args: [...QUIET, ...SOFTWARE_GL],
  });
  const seen = { errors: [] };
  try {
    const page = await browser.newPage();
    await page.evaluateOnNewDocument(() => {
      window.isYes = button => button.offsetParent && /^(Yes|Skip all|Skip)$/.test(button.textContent.trim());
    });
    await page.setViewport({ width: 1400, height: 900 });
    page.on('pageerror', error => seen.errors.push(String(error.message ?? error)));
    page.on('console', message => {
      const text = message.text();
      if (message.type() === 'error' || /Error Boundary|not present in stack|dropped/i.test(text)) seen.errors.push(text);
    });
    await look(page, seen).catch(async error => {
      seen.failed = String(error.stack ?? error);
      await page.screenshot({ path: path.join(out, 'failed.png') });
    });
  } finally {
    fs.writeFileSync(path.join(out, 'seen.json'), JSON.stringify(seen));
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1); });
