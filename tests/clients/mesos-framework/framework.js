// A framework on the unmodified npm package mesos-framework: its own handlers match offers, launch the tasks and start
// failed ones again. It writes what it saw as JSON and judges nothing: the test that started it does.
//
//     node framework.js HOST PORT RESULT.json
//
// It prints `running` when its long tasks run and goes on when a line comes on its standard input.
"use strict";

const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { Scheduler, Mesos } = require("mesos-framework");

const mesos = Mesos.getMesos();
const [host, port, resultFile] = process.argv.slice(2);
const DEADLINE = 150000;
const ENDS = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST"];

function command(text) {
    return new mesos.CommandInfo(null, null, true, text, null, null);
}

const scheduler = new Scheduler({
    masterUrl: host,
    port: port,
    frameworkName: "mesos-framework on a rack",
    user: "root",
    frameworkFailoverTimeout: 60,
    masterConnectionTimeout: 60,
    logging: { path: path.dirname(resultFile), fileName: "mesos-framework.log", level: "info" },
    tasks: {
        short: {
            priority: 1, instances: 6, commandInfo: command("echo on $HOST; sleep 0.5"),
            resources: { cpus: 0.1, mem: 32, ports: 1, disk: 0 }
        },
        failing: {
            priority: 2, instances: 1, commandInfo: command("exit 3"),
            resources: { cpus: 0.1, mem: 32, ports: 0, disk: 0 }
        },
        long: {
            priority: 3, instances: 2, commandInfo: command("sleep 1000"),
            resources: { cpus: 0.1, mem: 32, ports: 2, disk: 16 }
        }
    }
});

const seen = { node: process.version, events: {}, errors: [], updates: [], errors_until_teardown: null };
const waiting = [];

function changed() {
    for (const wait of waiting.slice()) {
        if (wait.ready()) {
            waiting.splice(waiting.indexOf(wait), 1);
            clearTimeout(wait.timer);
            wait.resolve();
        }
    }
}

function until(what, ready) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
            const last = seen.updates.slice(-5).map((update) => [update.task, update.state, update.message]);
            reject(new Error(`not within ${DEADLINE} ms: ${what}; last updates: ${JSON.stringify(last)}; errors: ${seen.errors}`));
        }, DEADLINE);
        waiting.push({ ready, resolve, timer });
        changed();
    });
}

for (const name of ["sent_subscribe", "sent_accept", "sent_decline", "sent_acknowledge", "sent_kill", "sent_reconcile",
    "sent_revive", "sent_teardown", "subscribed", "heartbeat", "offers", "update", "rescind", "failure"]) {
    scheduler.on(name, () => {
        seen.events[name] = (seen.events[name] || 0) + 1;
        changed();
    });
}
scheduler.on("error", (error) => {
    seen.errors.push((error && error.message) || String(error));
    changed();
});
scheduler.on("update", (update) => {
    const status = update.status;
    seen.updates.push({
        task: status.task_id.value, state: status.state, reason: status.reason, message: status.message,
        agent: status.agent_id && status.agent_id.value, executor: status.executor_id && status.executor_id.value, uuid: status.uuid
    });
    changed();
});

function of(name, states) {
    return seen.updates.filter((update) => update.task.includes(`.${name}-`) && states.includes(update.state));
}

function tasks(name, states) {
    return new Set(of(name, states).map((update) => update.task));
}

function reconciled(task) {
    return seen.updates.some((update) => update.task === task && update.reason === "REASON_RECONCILIATION");
}

async function run() {
    await until("subscribed", () => seen.events.subscribed);
    seen.framework = scheduler.frameworkId;
    await until("the end of the short tasks", () => tasks("short", ENDS).size === 6);
    await until("a second failure", () => tasks("failing", ENDS).size >= 2);
    // Enough of it: what fails from now on stays where it is.
    scheduler.options.restartStates = [];
    scheduler.pendingTasks = scheduler.pendingTasks.filter((task) => !task.name.startsWith("failing"));
    await until("the end of the failing tasks", () => scheduler.launchedTasks
        .every((task) => !task.name.startsWith("failing") || tasks("failing", ENDS).has(task.taskId)));
    await until("the long tasks in TASK_RUNNING", () => tasks("long", ["TASK_RUNNING"]).size === 2);

    const long = [...tasks("long", ["TASK_RUNNING"])];
    const agentOf = (task) => seen.updates.find((update) => update.task === task).agent;
    seen.long = long;
    console.log("running");
    await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once("line", resolve));

    scheduler.reconcile(long[0], agentOf(long[0]));
    await until("an answer to the explicit reconciliation", () => reconciled(long[0]));
    scheduler.reconcile();
    await until("an answer to the implicit reconciliation", () => reconciled(long[1]));
    scheduler.kill(long[0], agentOf(long[0]));
    await until("the end of a long task", () => of("long", ENDS).some((update) => update.task === long[0]));
    const before = seen.events.offers || 0;
    scheduler.revive();
    await until("offers after REVIVE", () => seen.events.offers > before);
    // The other long task ends with the framework. The package takes the end of its stream, which follows, for an error.
    seen.errors_until_teardown = seen.errors.length;
    scheduler.teardown();
    await until("TEARDOWN", () => seen.events.sent_teardown);
}

scheduler.on("ready", () => {
    scheduler.subscribe();
    run().then(() => 0, (error) => {
        console.error(error.stack);
        return 1;
    }).then((status) => {
        fs.writeFileSync(resultFile, JSON.stringify(seen));
        process.exit(status);
    });
});
