// What clients of a Parse server do; prints what they saw as JSON. usage: client.js all | again | stay
import Parse from 'parse/node';

Parse.initialize('app', undefined, 'master');
Parse.serverURL = 'http://127.0.0.1:1337/parse';
Parse.liveQueryServerURL = 'ws://127.0.0.1:1337/parse';
const GameScore = Parse.Object.extend('GameScore');
const MASTER = { useMasterKey: true };

async function scores(least) {
  const found = await new Parse.Query('GameScore').greaterThan('score', least).ascending('score').find();
  return found.map((one) => [one.get('player'), one.get('score')]);
}

async function refused(work) {
  try {
    await work();
    return 'nothing was refused';
  } catch (error) {
    return error.code;
  }
}

async function file(name) {
  const [holder] = await new Parse.Query('Holder').equalTo('name', name).find(MASTER);
  const response = await fetch(holder.get('file').url());
  return response.text();
}

async function all() {
  const seen = { before: await refused(() => new GameScore().save({ score: 1 })) };
  await new Parse.Schema('GameScore').addString('player').addNumber('score').save();
  const subscription = await new Parse.Query('GameScore').greaterThan('score', 1000).subscribe();
  const events = [];
  const told = new Promise((resolve) => {
    for (const kind of ['enter', 'create', 'update', 'leave', 'delete']) {
      subscription.on(kind, (object) => {
        events.push([kind, object.get('player'), object.get('score')]);
        if (kind === 'delete') resolve();
      });
    }
  });
  const ann = await new GameScore().save({ player: 'ann', score: 1337 });
  const bob = await new GameScore().save({ player: 'bob', score: 10 });
  seen.query = await scores(5);
  await ann.save({ score: 2000 });
  await bob.save({ score: 1001 });
  await bob.save({ score: 12 });
  await ann.destroy();
  await told;
  seen.events = events;
  await subscription.unsubscribe();

  const user = await Parse.User.signUp('cleo', 'her password');
  const own = await new Parse.Object('Secret', { text: 'mine' }).setACL(new Parse.ACL(user)).save(null, MASTER);
  const hers = await new Parse.Query('Secret').find({ sessionToken: user.getSessionToken() });
  seen.hers = hers.map((one) => one.get('text'));
  seen.others = (await new Parse.Query('Secret').find()).length;
  seen.wrong = await refused(() => Parse.User.logIn('cleo', 'a password'));
  seen.own = own.id.length;

  const upload = new Parse.File('note.txt', { base64: Buffer.from('kept').toString('base64') }, 'text/plain');
  await upload.save(MASTER);
  await new Parse.Object('Holder', { name: 'note', file: upload }).save(null, MASTER);
  seen.file = await file('note');
  return seen;
}

const work = {
  all,
  again: async () => ({ query: await scores(5), file: await file('note') }),
  stay: async () => {
    const subscription = await new Parse.Query('GameScore').subscribe();
    console.log('subscribed');
    await new Promise((resolve) => { subscription.on('close', resolve); });
    return { closed: true };
  },
}[process.argv[2]];
console.log(JSON.stringify(await work()));
process.exit(0);
