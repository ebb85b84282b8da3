'use strict';
// Sends a photo to this page's server and shows what it says. Text goes in as text, never as HTML.
const at = (id) => document.getElementById(id);
const view = () => document.querySelector('input[name=view]:checked').value;
let file = null; // the photo that is shown or asked for
let shown = null; // the server's answer to it
let latest = 0; // number of the last question: answers to earlier ones are dropped

function element(kind, text = '', attributes = {}) {
  const made = document.createElement(kind);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function percent(share) {
  return share > 0 && share < 0.0005 ? '< 0.1\u00a0%' : `${(100 * share).toFixed(1)}\u00a0%`;
}

async function ask(confidence) {
  const most = Number(document.body.dataset.mostBytes);
  if (file.size > most) {
    return { error: `${Math.ceil(file.size / 2 ** 20)} MiB; this page takes ${most / 2 ** 20} at most` };
  }
  let bytes;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    return { error: 'the browser cannot read it; is it a folder?' };
  }
  try {
    const answer = await fetch(`predict${confidence ? '?confidence' : ''}`, {
      method: 'POST', body: bytes, headers: { 'Content-Type': 'application/octet-stream' },
    });
    return await answer.json();
  } catch {
    return { error: 'no answer from the server; does ibnseg demo-page still run?' };
  }
}

async function predict(chosen) {
  const isNew = chosen !== file;
  const mine = ++latest;
  file = chosen;
  if (isNew) at('result').hidden = true;
  at('error').hidden = true;
  at('status').textContent = `Predicting ${file.name} …`;
  document.body.classList.add('busy');
  const answer = await ask(view() === 'confidence');
  if (mine !== latest) return;
  document.body.classList.remove('busy');
  at('status').textContent = answer.error ? '' : file.name;
  if (answer.error) {
    at('error').textContent = `${file.name}: ${answer.error}`;
    at('error').hidden = false;
    return;
  }
  shown = answer;
  draw();
}

function figure(name, source, alt, files) {
  const made = element('figure');
  const caption = element('figcaption');
  caption.append(element('strong', name));
  const stem = file.name.replace(/\.[^.]*$/, '');
  for (const [what, kind, address] of files) {
    const saved = `${stem}.${name}.${what}.${kind}`;
    caption.append(' ', element('a', `save ${what}`, { href: address, download: saved }));
  }
  made.append(caption, element('img', '', { src: source, alt }));
  return made;
}

function draw() {
  const what = view();
  const names = shown.networks.map((one) => one.name);
  at('pictures').replaceChildren(
    figure('photo', shown.photo, 'the photo', []),
    ...shown.networks.map((one) => {
      const files = [['overlay', 'jpg'], ['labels', 'png'], ['confidence', 'png']]
        .filter(([part]) => one[part]).map(([part, kind]) => [part, kind, one[part]]);
      return figure(one.name, one[what], `${what} of ${one.name}`, files);
    }),
  );
  at('heads').replaceChildren(
    ...['class', ...names].map((name) => element('th', name, { scope: 'col' })),
  );
  at('classes').replaceChildren(...shown.classes.map((one) => {
    const row = element('tr');
    const head = element('th', one.name, { scope: 'row' });
    const swatch = element('span', '', { class: 'swatch' });
    swatch.style.background = `rgb(${one.colour})`;
    head.prepend(swatch);
    row.append(head, ...one.shares.map((share) => element('td', percent(share))));
    return row;
  }));
  const means = element('tr');
  means.append(element('th', 'mean confidence', { scope: 'row' }));
  means.append(...shown.networks.map((one) => element('td', percent(one.mean))));
  at('means').replaceChildren(...(shown.networks[0].mean === undefined ? [] : [means]));
  at('absent').textContent = shown.absent.length ? `Not seen: ${shown.absent.join(', ')}.` : '';
  at('key').hidden = what !== 'confidence';
  at('result').hidden = false;
}

at('file').addEventListener('change', () => {
  if (at('file').files.length) predict(at('file').files[0]);
  at('file').value = ''; // so that the same file can be chosen again
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('over');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  const dropped = event.dataTransfer.files;
  if (dropped.length) {
    predict(dropped[0]);
  } else {
    at('error').textContent = 'That is no file: save the photo first, then drop the file.';
    at('error').hidden = false;
  }
});
for (const one of document.querySelectorAll('input[name=view]')) {
  // Confidence is predicted where it is asked for.
  one.addEventListener('change', () => (shown.networks[0][view()] ? draw() : predict(file)));
}
