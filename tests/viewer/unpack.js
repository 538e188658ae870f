// Reads a Segmentation with dcmjs: node unpack.js FILE writes its frames, segment numbers and sources as JSON.
const fs = require('fs');
const dcmjs = require('dcmjs');

dcmjs.log.setLevel('silent');
const bytes = fs.readFileSync(process.argv[2]);
const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const dataset = dcmjs.data.DicomMetaDictionary.naturalizeDataset(dcmjs.data.DicomMessage.readFile(file).dict);
const pixels = dcmjs.data.BitArray.unpack([].concat(dataset.PixelData)[0]);
const size = dataset.Rows * dataset.Columns;
const first = item => [].concat(item)[0];
const frames = [].concat(dataset.PerFrameFunctionalGroupsSequence).map((group, index) => {
  const source = first(first(group.DerivationImageSequence).SourceImageSequence);
  return {
    segment: first(group.SegmentIdentificationSequence).ReferencedSegmentNumber,
    instance: source.ReferencedSOPInstanceUID,
    frame: source.ReferencedFrameNumber === undefined ? 1 : Number(source.ReferencedFrameNumber),
    on: Array.from(pixels.slice(index * size, (index + 1) * size)),
  };
});
process.stdout.write(JSON.stringify(frames));
