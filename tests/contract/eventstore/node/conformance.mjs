// Acceptance with the Node client. Not part of pytest: it needs the package from npm.
//   npm install @kurrent/kurrentdb-client
//   node conformance.mjs 'kurrentdb://127.0.0.1:2113?tls=false'
// With IDLE=60 it also holds a subscription for a minute of silence (keep-alive pings).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import * as kdb from "@kurrent/kurrentdb-client";

const client = kdb.KurrentDBClient.connectionString(process.argv[2]);
const event = (type = "Happened", data = { a: 1 }) => kdb.jsonEvent({ type, data });
const name = () => `node-${randomUUID()}`;
const collect = async (iterable, count = Infinity) => {
  const got = [];
  for await (const entry of iterable) {
    got.push(entry);
    if (got.length >= count) break;
  }
  return got;
};
// Leaving a for-await loop destroys a subscription; this looks at some of its events and leaves it on.
const listen = (subscription, count, handle = () => {}) =>
  new Promise((resolve, reject) => {
    const got = [];
    const onData = async (entry) => {
      got.push(entry);
      await handle(entry);
      if (got.length === count) {
        subscription.off("data", onData);
        resolve(got);
      }
    };
    subscription.on("error", reject);
    subscription.on("data", onData);
  });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const tests = {
  async "append and read both ways"() {
    const s = name();
    const result = await client.appendToStream(s, [event(), event(), event()], { streamState: kdb.NO_STREAM });
    assert.equal(result.nextExpectedRevision, 2n);
    assert.deepEqual((await collect(client.readStream(s))).map((e) => e.event.revision), [0n, 1n, 2n]);
    const back = await collect(client.readStream(s, { direction: kdb.BACKWARDS, fromRevision: kdb.END, maxCount: 2 }));
    assert.deepEqual(back.map((e) => e.event.revision), [2n, 1n]);
  },
  async "append with credentials uses the unary call"() {
    const s = name();
    const credentials = { username: "admin", password: "changeit" };
    await client.appendToStream(s, [event()], { credentials });
    await assert.rejects(
      client.appendToStream(s, [event()], { credentials, streamState: 7n }),
      (e) => e instanceof kdb.WrongExpectedVersionError && e.actualState === 0n,
    );
  },
  async "wrong expected version"() {
    const s = name();
    await client.appendToStream(s, [event()]);
    await assert.rejects(
      client.appendToStream(s, [event()], { streamState: 5n }),
      (e) => e instanceof kdb.WrongExpectedVersionError && e.actualState === 0n && e.expectedState === 5n,
    );
    await assert.rejects(client.appendToStream(s, [event()], { streamState: kdb.NO_STREAM }), kdb.WrongExpectedVersionError);
  },
  async "six megabytes in chunks"() {
    const s = name();
    const big = Array.from({ length: 6 }, () => kdb.binaryEvent({ type: "Big", data: Buffer.alloc(1 << 20) }));
    await client.appendToStream(s, big);
    assert.equal((await collect(client.readStream(s))).length, 6);
  },
  async "pipelined appends keep their order"() {
    const s = name();
    await Promise.all(Array.from({ length: 50 }, (_, n) =>
      client.appendToStream(s, [event("N", { n })], { streamState: n ? BigInt(n - 1) : kdb.NO_STREAM })));
    assert.deepEqual((await collect(client.readStream(s))).map((e) => e.event.data.n), [...Array(50).keys()]);
  },
  async "missing, deleted and tombstoned streams"() {
    const s = name();
    await assert.rejects(collect(client.readStream(s)), kdb.StreamNotFoundError);
    await client.appendToStream(s, [event()]);
    await client.deleteStream(s);
    await assert.rejects(collect(client.readStream(s)), kdb.StreamNotFoundError);
    await client.appendToStream(s, [event()]);
    assert.deepEqual((await collect(client.readStream(s))).map((e) => e.event.revision), [1n]);
    await assert.rejects(client.deleteStream(s, { expectedRevision: 9n }), kdb.WrongExpectedVersionError);
    await client.tombstoneStream(s);
    await assert.rejects(collect(client.readStream(s)), kdb.StreamDeletedError);
    await assert.rejects(client.appendToStream(s, [event()]), kdb.StreamDeletedError);
  },
  async "stream metadata"() {
    const s = name();
    await client.appendToStream(s, [event(), event(), event()]);
    await client.setStreamMetadata(s, { maxCount: 2, custom: "x" });
    assert.equal((await client.getStreamMetadata(s)).metadata.maxCount, 2);
    assert.equal((await collect(client.readStream(s))).length, 2);
  },
  async "$all with filters"() {
    const type = `T${randomUUID().replaceAll("-", "")}`;
    await client.appendToStream(name(), [event(type), event("Other"), event(type)]);
    const filter = kdb.eventTypeFilter({ prefixes: [type] });
    assert.equal((await collect(client.readAll({ filter }))).length, 2);
    const regex = kdb.eventTypeFilter({ regex: `^${type}$` });
    assert.equal((await collect(client.readAll({ filter: regex, direction: kdb.BACKWARDS, fromPosition: kdb.END }))).length, 2);
  },
  async "catch-up subscriptions with checkpoints"() {
    const s = name();
    const subscription = client.subscribeToStream(s, { fromRevision: kdb.START });
    const got = listen(subscription, 3);
    await client.appendToStream(s, [event(), event(), event()]);
    assert.deepEqual((await got).map((e) => e.event.revision), [0n, 1n, 2n]);
    await subscription.unsubscribe();
    let checkpoints = 0;
    const filter = kdb.streamNameFilter({ prefixes: [s], checkpointInterval: 1, checkpointReached: () => { checkpoints += 1; } });
    const all = client.subscribeToAll({ fromPosition: kdb.START, filter });
    assert.equal((await listen(all, 3)).length, 3);
    const more = listen(all, 1);
    await client.appendToStream(name(), Array.from({ length: 100 }, () => event()));
    await client.appendToStream(s, [event()]);
    await more;
    await all.unsubscribe();
    assert.ok(checkpoints > 0);
  },
  async "links"() {
    const s = name(), l = name();
    await client.appendToStream(s, [event()]);
    await client.appendToStream(l, [kdb.binaryEvent({ type: "$>", data: Buffer.from(`0@${s}`) })]);
    const [got] = await collect(client.readStream(l, { resolveLinkTos: true }));
    assert.equal(got.event.streamId, s);
    assert.equal(got.link.streamId, l);
  },
  async "groups on a stream"() {
    const s = name(), g = "group";
    await client.appendToStream(s, [event(), event(), event()]);
    const settings = kdb.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: kdb.START, maxRetryCount: 1 });
    await client.createPersistentSubscriptionToStream(s, g, settings);
    await assert.rejects(client.createPersistentSubscriptionToStream(s, g, settings), kdb.PersistentSubscriptionExistsError);
    let subscription = client.subscribeToPersistentSubscriptionToStream(s, g);
    await listen(subscription, 3, (e) =>
      e.event.revision === 1n ? subscription.nack(kdb.PARK, "for the test", e) : subscription.ack(e));
    await pause(300);
    await subscription.unsubscribe();
    let info = await client.getPersistentSubscriptionToStreamInfo(s, g);
    assert.equal(info.stats.parkedMessageCount, 1n);
    assert.equal((await client.listPersistentSubscriptionsToStream(s)).length, 1);
    assert.ok((await client.listAllPersistentSubscriptions()).length >= 1);
    await client.replayParkedMessagesToStream(s, g);
    subscription = client.subscribeToPersistentSubscriptionToStream(s, g);
    const [again] = await listen(subscription, 1, (e) => subscription.ack(e));
    assert.equal(again.event.revision, 1n);
    await pause(100);
    await subscription.unsubscribe();
    await client.updatePersistentSubscriptionToStream(s, g, { ...settings, maxRetryCount: 5 });
    info = await client.getPersistentSubscriptionToStreamInfo(s, g);
    assert.equal(info.settings.maxRetryCount, 5);
    await client.restartPersistentSubscriptionSubsystem();
    await client.deletePersistentSubscriptionToStream(s, g);
    await assert.rejects(client.getPersistentSubscriptionToStreamInfo(s, g), kdb.PersistentSubscriptionDoesNotExistError);
  },
  async "groups on $all"() {
    const s = name(), g = name();
    await client.createPersistentSubscriptionToAll(g, kdb.persistentSubscriptionToAllSettingsFromDefaults({ startFrom: kdb.START }), { filter: kdb.streamNameFilter({ prefixes: [s] }) });
    await client.appendToStream(s, [event(), event()]);
    const subscription = client.subscribeToPersistentSubscriptionToAll(g);
    await listen(subscription, 2, (e) => subscription.ack(e));
    await pause(100);
    await subscription.unsubscribe();
    assert.equal((await client.getPersistentSubscriptionToAllInfo(g)).groupName, g);
    await client.deletePersistentSubscriptionToAll(g);
  },
  async "multi-stream append"() {
    if (!client.multiStreamAppend) return;
    const a = name(), b = name();
    await client.multiStreamAppend([
      { streamName: a, events: [event(), event()], expectedState: kdb.NO_STREAM },
      { streamName: b, events: [event()], expectedState: kdb.ANY },
    ]);
    assert.equal((await collect(client.readStream(a))).length, 2);
    await assert.rejects(client.multiStreamAppend([{ streamName: b, events: [event()], expectedState: 9n }]));
  },
  async "append records"() {
    if (!client.appendRecords) return;
    const a = name(), b = name();
    const record = (streamName) => ({ streamName, record: event() });
    await client.appendRecords([record(a), record(b), record(a)]);
    assert.equal((await collect(client.readStream(a))).length, 2);
  },
  async "idle subscription"() {
    const seconds = Number(process.env.IDLE ?? 0);
    const s = name();
    const subscription = client.subscribeToStream(s, { fromRevision: kdb.START });
    const got = listen(subscription, 1);
    await pause(seconds * 1000);
    await client.appendToStream(s, [event()]);
    assert.equal((await got).length, 1);
    await subscription.unsubscribe();
  },
};

let failed = 0;
for (const [title, test] of Object.entries(tests)) {
  try {
    await test();
    console.log("ok  ", title);
  } catch (error) {
    failed += 1;
    console.log("FAIL", title, error);
  }
}
console.log(`${Object.keys(tests).length - failed} of ${Object.keys(tests).length} passed`);
await client.dispose();
process.exit(failed ? 1 : 0);
