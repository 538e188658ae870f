// Serves the built OHIF and, on the same origin, an archive's DICOMweb.
const fs = require('fs');
const http = require('http');
const path = require('path');

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'application/javascript',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};
// What shared memory needs, which OHIF decodes into.
const ISOLATED = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};
const CONFIGURATION = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: false,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'archive',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'archive',
      configuration: {
        friendlyName: 'archive',
        name: 'archive',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/dicom-web',
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
};

function forward(request, response, archive) {
  const target = new URL(request.url, archive);
  const headers = { ...request.headers, host: target.host };
  const passed = http.request(target, { method: request.method, headers }, answer => {
    response.writeHead(answer.statusCode, { ...answer.headers, ...ISOLATED });
    answer.pipe(response);
  });
  passed.on('error', error => response.writeHead(502, ISOLATED).end(String(error)));
  request.pipe(passed);
}

function sendFile(request, response, dist) {
  const wanted = path.join(dist, new URL(request.url, 'http://viewer').pathname);
  const found = fs.existsSync(wanted) && fs.statSync(wanted).isFile();
  // Any other path is a route of the viewer.
  const file = wanted.startsWith(dist) && found ? wanted : path.join(dist, 'index.html');
  response.writeHead(200, { ...ISOLATED, 'Content-Type': TYPES[path.extname(file)] || 'application/octet-stream' });
  fs.createReadStream(file).pipe(response);
}

// Resolves to the address of the viewer, on a port of the system's choice.
function serve(dist, archive) {
  const server = http.createServer((request, response) => {
    if (request.url.startsWith('/dicom-web')) {
      forward(request, response, archive);
    } else if (request.url.startsWith('/app-config.js')) {
      response.writeHead(200, { ...ISOLATED, 'Content-Type': TYPES['.js'] });
      response.end(`window.config = ${JSON.stringify(CONFIGURATION)};`);
    } else {
      sendFile(request, response, dist);
    }
  });
  return new Promise(resolve =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)),
  );
}

module.exports = { serve };
