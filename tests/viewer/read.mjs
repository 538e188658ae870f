// Reads Segmentations and reports with packages of the npm registry, all in one process.
//   node read.mjs JOBS OUT
// JOBS is a list of {name, reader, file, sources}. OUT gets, by name, what was read: a label per voxel of the sources
// as base64 (adapters, dcmjs), a volume with its place (itk-wasm), a text (itk-wasm-text), or why it was not.
import fs from 'node:fs';
import { adaptersSEG } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';
import { readOverlappingSegmentationNode, structuredReportToTextNode } from '@itk-wasm/dicom';
import dcmjs from 'dcmjs';

const { BitArray, DicomMessage, DicomMetaDictionary } = dcmjs.data;
const [jobs, out] = process.argv.slice(2);
dcmjs.log.setLevel('silent');

const first = item => [].concat(item ?? [])[0];
const encode = bytes => Buffer.from(bytes).toString('base64');
const buffer = file => {
  const bytes = fs.readFileSync(file);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};
const read = file => DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(buffer(file)).dict);

// One entry per source frame, in the order of the files; a viewer takes a plain plane where a source has none.
function frames(sources) {
  return sources.flatMap(read).flatMap(header => {
    const plane = first(first(header.SharedFunctionalGroupsSequence)?.PlaneOrientationSequence) ?? header;
    const orientation = (plane.ImageOrientationPatient ?? [1, 0, 0, 0, 1, 0]).map(Number);
    return Array.from({ length: Number(header.NumberOfFrames ?? 1) }, (_, index) => ({
      ...header,
      PixelData: undefined,
      ImageOrientationPatient: orientation,
      number: index + 1,
    }));
  });
}

function describe(entries) {
  const ids = entries.map(entry => `source:${entry.SOPInstanceUID}&frame=${entry.number}`);
  const entry = id => entries[ids.indexOf(id)];
  const modules = {
    instance: one => one,
    generalSeriesModule: one => ({ seriesInstanceUID: one.SeriesInstanceUID, modality: one.Modality }),
    generalImageModule: one => ({ sopInstanceUID: one.SOPInstanceUID }),
    imagePlaneModule: one => ({
      rows: one.Rows,
      columns: one.Columns,
      rowCosines: one.ImageOrientationPatient.slice(0, 3),
      columnCosines: one.ImageOrientationPatient.slice(3),
      imageOrientationPatient: one.ImageOrientationPatient,
      imagePositionPatient: [0, 0, one.number],
      rowPixelSpacing: 1,
      columnPixelSpacing: 1,
    }),
    imagePixelModule: one => ({
      rows: one.Rows,
      columns: one.Columns,
      bitsAllocated: 8,
      bitsStored: 8,
      highBit: 7,
      samplesPerPixel: 1,
      pixelRepresentation: 0,
      photometricInterpretation: 'MONOCHROME2',
    }),
  };
  metaData.removeAllProviders();
  metaData.addProvider((type, id) => entry(id) && modules[type]?.(entry(id)), 1000);
  return ids;
}

const READERS = {
  async adapters({ file, sources }) {
    const ids = describe(frames(sources));
    const given = { metadataProvider: metaData };
    const found = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(ids, buffer(file), given);
    if (found.labelMapImages.length !== 1) throw new Error('layers overlap');
    const images = found.labelMapImages[0].map(image => Buffer.from(image.voxelManager.getScalarData()));
    const segments = found.segMetadata.data.filter(one => one?.SegmentNumber).map(one => [one.SegmentNumber, one.SegmentLabel]);
    return { segments, labels: encode(Buffer.concat(images)) };
  },

  async dcmjs({ file, sources }) {
    const places = new Map(frames(sources).map((one, place) => [`${one.SOPInstanceUID} ${one.number}`, place]));
    const mask = read(file);
    const bits = BitArray.unpack(first(mask.PixelData));
    const size = mask.Rows * mask.Columns;
    const labels = new Uint8Array(places.size * size);
    [].concat(mask.PerFrameFunctionalGroupsSequence).forEach((group, index) => {
      const source = first(first(group.DerivationImageSequence).SourceImageSequence);
      const place = places.get(`${source.ReferencedSOPInstanceUID} ${source.ReferencedFrameNumber ?? 1}`);
      const number = first(group.SegmentIdentificationSequence).ReferencedSegmentNumber;
      for (let n = 0; n < size; n++) if (bits[index * size + n]) labels[place * size + n] = number;
    });
    const segments = [].concat(mask.SegmentSequence).map(one => [one.SegmentNumber, one.SegmentLabel]);
    return { segments, labels: encode(labels) };
  },

  // As VolView reads: layers that share no voxel in one component, as many as are needed.
  async 'itk-wasm'({ file }) {
    const { segImage, metaInfo } = await readOverlappingSegmentationNode(file, { mergeSegments: true });
    const { size, spacing, origin, direction, data, imageType } = segImage;
    const labels = new Uint8Array(size[0] * size[1] * size[2]);
    data.forEach((value, n) => {
      const at = Math.floor(n / imageType.components);
      if (value) labels[at] = value;
    });
    const segments = metaInfo.segmentAttributes.flat().map(one => [one.labelID, one.SegmentLabel]);
    segments.sort((one, other) => one[0] - other[0]);
    return { segments, size, spacing, origin, direction: Array.from(direction), labels: encode(labels) };
  },

  async 'itk-wasm-text'({ file }) {
    return { text: (await structuredReportToTextNode(file, {})).outputText };
  },
};

const seen = {};
for (const job of JSON.parse(fs.readFileSync(jobs))) {
  seen[job.name] = await READERS[job.reader](job).catch(error => ({ failed: String(error?.message ?? error) }));
}
fs.writeFileSync(out, JSON.stringify(seen));
