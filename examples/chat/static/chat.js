// The page keeps nothing either: whatever it shows are events of the store, and a reload reads them again.
const AGAIN = 2000; // milliseconds
const OFFLINE = "You are offline. The page goes on as soon as you are online again.";
const ENDS = {
  TaskRevokedError: () => "Stopped.",
  TaskLost: () => "The worker that wrote this answer has died. Ask again.",
  StreamGap: () => "The rest of this answer is not stored any more.",
};
const [talk, status, form, text, send, stop] = ["talk", "status", "form", "text", "send", "stop"].map(
  (name) => document.getElementById(name) ?? document.querySelector(name),
);
const conversation = location.pathname.split("/").pop();
let answering = null; // the id of the question that is being answered

/** Say something about the connection, or that all is well. */
function say(words = "") {
  if (status.textContent !== words) status.textContent = words;
}

/** Say that the page is offline, or else that all is well: an open connection can outlast the network for a while. */
const sayOpen = () => say(navigator.onLine ? "" : OFFLINE);

/**
 * Follow a task behind a cursor, whatever happens to the network and the server, until a handler calls `done`.
 *
 * EventSource connects again by itself when a connection breaks, and names the last event that it has seen. It gives up
 * where the server refuses; then a new one is made, unless what was seen is gone (410).
 */
function follow(id, after, handlers) {
  return new Promise((resolve, reject) => {
    let source, timer, cursor = after;
    const leave = (settle, value) => {
      clearTimeout(timer);
      source.close();
      removeEventListener("online", connect);
      removeEventListener("offline", tell);
      settle(value);
    };
    const done = (value) => leave(resolve, value);
    const tell = () =>
      say(navigator.onLine ? "The server does not answer. The page goes on as soon as it does." : OFFLINE);
    const fail = async () => {
      tell();
      if (source.readyState !== EventSource.CLOSED) return;
      const answer = await fetch(source.url).catch(() => null);
      answer?.body?.cancel();
      if (answer?.status === 410) leave(reject, new Error("This conversation is not stored any more."));
      else timer = setTimeout(connect, AGAIN);
    };
    const connect = () => {
      clearTimeout(timer);
      source?.close();
      source = new EventSource(`/results/${id}/events?after=${cursor}`);
      source.onopen = sayOpen;
      source.onerror = fail;
      for (const [name, handle] of Object.entries(handlers))
        source.addEventListener(name, (event) => {
          cursor = event.lastEventId;
          handle(JSON.parse(event.data), done, cursor);
        });
    };
    connect();
    addEventListener("online", connect); // now, and not in two seconds
    addEventListener("offline", tell);
  });
}

/** Show a question, and its answer until that ends. */
async function show(question) {
  const turn = document.getElementById("turn").content.cloneNode(true).firstElementChild;
  const [answer, bar, end] = ["p", "progress", ".end"].map((name) => turn.querySelector(name));
  turn.querySelector("h2").textContent = question.text;
  talk.append(turn);
  turn.scrollIntoView({ block: "end" });
  answering = question.id;
  [send.hidden, stop.hidden] = [true, false];
  await follow(question.id, "", {
    item: (word) => {
      const atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40; // otherwise somebody reads above
      answer.append(word);
      if (atEnd) talk.scrollTop = talk.scrollHeight;
    },
    progress: ({ result }) => { [bar.max, bar.value] = [result.total, result.current]; },
    end: ({ error }, done) => {
      bar.remove();
      end.hidden = !error;
      if (error) end.textContent = ENDS[error.type]?.() ?? `The answer has failed: ${error.message}`;
      turn.scrollIntoView({ block: "end" });
      done();
    },
  });
  answering = null;
  [send.hidden, stop.hidden] = [false, true];
}

/** Show the conversation: one question after the other, so that a tab needs one connection. */
async function converse() {
  for (let cursor = ""; ;) {
    const next = { item: (question, done, seen) => done([question, seen]) };
    const [question, seen] = await follow(conversation, cursor, next);
    cursor = seen;
    await show(question);
  }
}

/** Make a request; return whether it was done, and say so if it was not. */
async function post(path, body, what) {
  const answer = await fetch(path, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  }).catch(() => null);
  if (!answer?.ok) say(`${what}. ${navigator.onLine ? "The server does not answer" : "You are offline"}; try again.`);
  return answer?.ok ?? false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (answering) return say("Wait for the end of the answer, or stop it with Escape.");
  send.disabled = true;
  if (await post(location.pathname, { text: text.value }, "Your question was not sent")) form.reset();
  send.disabled = false;
});
const halt = () => answering && post(`/results/${answering}/revoke`, {}, "The answer was not stopped");
stop.addEventListener("click", halt);
addEventListener("keydown", (event) => { if (event.key === "Escape") halt(); });

converse().catch((error) => say(`${error.message} Begin a new one.`));
