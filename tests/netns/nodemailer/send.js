// node send.js SERVER MESSAGE RECIPIENT...: sends the file as it is, by the Nodemailer that package.json pins;
// in TLS where CA_FILE is set, and with MAIL_USER and MAIL_PASSWORD.
'use strict';
const fs = require('fs');
const { nodemailer: version } = require('./package.json').dependencies;
const cache = `/var/cache/postern-test-servers/nodemailer-${version}`;
const nodemailer = require(`${cache}/node_modules/nodemailer`);

const { CA_FILE: ca, MAIL_USER: user, MAIL_PASSWORD: pass } = process.env;
const tls = ca ? { requireTLS: true, tls: { ca: fs.readFileSync(ca) } } : { ignoreTLS: true };

const [server, message, ...recipients] = process.argv.slice(2);

async function main() {
  const transport = nodemailer.createTransport({
    host: server, port: 25, name: 'client.stranger.example', logger: true, debug: true, ...tls,
    ...(user ? { auth: { user, pass } } : {}),
  });
  const result = await transport.sendMail({
    envelope: { from: 'someone@stranger.example', to: recipients },
    raw: fs.readFileSync(message),
  });
  console.log(JSON.stringify(result));
  process.exitCode = result.rejected.length ? 1 : 0;
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
