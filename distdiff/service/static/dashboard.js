// The dashboard: what the service says of itself, as it changes. Data reach the page as text alone, never as HTML.

const $ = id => document.getElementById(id)
const KEY = "distdiff-token"
const KINDS = {
  spy: "Entries of I \u2212 L", levels: "Levels", partition: "Partition", timeline: "Timeline (measured)",
  scaling: "Scaling (measured)",
}
const dark = matchMedia("(prefers-color-scheme: dark)")
const page = {token: sessionStorage.getItem(KEY), chosen: null, kind: "spy", shown: "", served: 0, refreshing: null, stale: false,
  leaving: null}

// ---- words and numbers

const count = n => n == null ? "\u2013" : n < 1e7 ? Math.round(n).toLocaleString("en") : n.toPrecision(3)
const bytes = n => scaled(n, 1000, ["B", "kB", "MB", "GB", "TB"])
const seconds = t => t == null ? "" : t >= 1 ? `${+t.toPrecision(3)} s` : scaled(t * 1e6, 1000, ["\u00b5s", "ms"])
const scaled = (x, step, units) => {
  let k = 0
  while (x >= step && k < units.length - 1) { x /= step; k++ }
  return `${+x.toPrecision(3)} ${units[k]}`
}
const ago = t => { const s = Math.max(0, Date.now() / 1000 - t); return s < 60 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min` }

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name)
  if (text != null) made.textContent = text
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}
const tiles = (list, facts) => list.replaceChildren(...Object.entries(facts).map(([name, value]) => {
  const tile = element("div")
  tile.append(element("dt", name), element("dd", value))
  return tile
}))
const row = (cells, chosen) => {
  const made = element("tr", null, chosen ? {class: "chosen"} : {})
  made.append(...cells.map(cell => {
    if (cell instanceof Node) { const td = element("td"); td.append(cell); return td }
    return element("td", cell)
  }))
  return made
}

// ---- asking

class Refused extends Error {}

async function ask(path, settings = {}) {
  const answer = await fetch(path, {...settings, cache: "no-store", headers: {authorization: `Bearer ${page.token}`}})
  if (answer.status === 401) throw new Refused("This token is not the service's.")
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}))
    throw new Error(problem.detail || `The service answered ${answer.status}.`)
  }
  return answer
}

// Server-sent events, read by hand: EventSource can't send a token.
async function* events(path, signal) {
  const reader = (await ask(path, {signal})).body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  for (;;) {
    const {value, done} = await reader.read()
    if (done) return
    const parts = (text + value).split("\n\n")
    text = parts.pop()
    for (const part of parts) {
      const data = part.split("\n").filter(line => line.startsWith("data:")).map(line => line.slice(5)).join("\n")
      if (data) yield JSON.parse(data)
    }
  }
}

// ---- showing

function show(state) {
  $("status").textContent = `version ${state.version}, ${state.busy ? "working" : state.tracing ? "tracing" : "idle"}`
  $("status").className = ""
  tiles($("tiles"), {ranks: state.ranks.length, systems: state.systems.length, "jobs running": state.running,
    "jobs waiting": state.queued,
    "memory, all ranks": bytes(state.ranks.reduce((sum, used) => sum + used.memory, 0))})
  const most = Math.max(...state.ranks.map(used => used.memory)), longest = Math.max(...state.ranks.map(used => used.seconds))
  $("memory").replaceChildren(...state.ranks.flatMap((used, rank) => [element("span", `rank ${rank}`),
    element("progress", null, {max: most, value: used.memory, "aria-label": `memory of rank ${rank}`}),
    element("span", bytes(used.memory)),
    element("progress", null, {max: longest, value: used.seconds, "aria-label": `processor time of rank ${rank}`}),
    element("span", `${seconds(used.seconds)} of a core`)]))

  const stopping = document.activeElement?.dataset?.job
  $("jobs").hidden = !state.jobs.length
  $("no-jobs").hidden = !!state.jobs.length
  const names = Object.fromEntries(state.systems.map(system => [system.id, system.name || system.id]))
  $("jobs").tBodies[0].replaceChildren(...state.jobs.slice().reverse().map(job => {
    const progress = element("span")
    if (job.columns > 1) {
      progress.append(element("progress", null, {max: job.columns, value: job.done}), ` ${job.done} of ${job.columns}`)
    }
    const said = element("span", job.error ? `${job.state}: ${job.error.detail}` : job.state, {class: job.state})
    return row([job.kind, names[job.system] ?? job.system, said, progress, ago(job.submitted), stopper(job)])
  }))

  if (stopping) $("jobs").querySelector(`[data-job="${CSS.escape(stopping)}"]`)?.focus()

  $("no-systems").hidden = !!state.systems.length
  const held = document.activeElement?.dataset?.system
  $("systems").replaceChildren(...state.systems.map(system => {
    const item = element("li"), button = element("button", null, {type: "button", "data-system": system.id,
      "aria-current": system.id === page.chosen})
    button.append(element("strong", system.name || system.id),
      element("small", `${count(system.lines)} lines, point ${system.point}, about ${bytes(system.predicted_memory)} a rank`),
      element("small", `${system.id.slice(0, 6)}, made ${ago(system.created)} ago`))
    button.addEventListener("click", () => choose(system.id))
    item.append(button)
    return item
  }))
  if (held) $("systems").querySelector(`[data-system="${CSS.escape(held)}"]`)?.focus()

  const chosen = state.systems.find(system => system.id === page.chosen)
  if (!chosen) {
    page.chosen = null
    $("detail").hidden = true
    if (state.systems.length === 1) choose(state.systems[0].id)
  } else if (page.shown && page.shown !== `${chosen.id} ${chosen.point}`) {
    choose(chosen.id) // it has moved
  } else {
    page.shown ||= `${chosen.id} ${chosen.point}`
    if (chosen.served !== page.served) refresh()
    page.served = chosen.served
  }
}

// What solves have changed in the report, a second after the first of them; asked anew once the last answer is there.
function refresh() {
  page.stale = true
  page.refreshing ??= setTimeout(async () => {
    const id = page.chosen
    page.stale = false
    if (id) await details(id).then(found => { if (page.chosen === id) describe(...found) }).catch(complain)
    page.refreshing = null
    if (page.stale) refresh()
  }, 1000)
}

const details = id => {
  const path = `v1/systems/${encodeURIComponent(id)}`
  return Promise.all([path, `${path}/report`].map(async p => (await ask(p)).json()))
}

// A button that cancels a job, while there is something to cancel. Rows are made anew as jobs go on: focus moves along.
function stopper(job) {
  if (!job.cancellable) return ""
  const button = element("button", "Cancel", {type: "button", "data-job": job.id, "aria-label": `Cancel ${job.kind}`})
  button.addEventListener("click", () => ask(`v1/jobs/${encodeURIComponent(job.id)}`, {method: "DELETE"}).catch(complain))
  return button
}

async function choose(id) {
  if (page.chosen !== id) {
    $("detail").hidden = $("picture").hidden = true
    $("caption").textContent = ""
  }
  page.chosen = id
  page.shown = ""
  for (const button of $("systems").querySelectorAll("button")) button.setAttribute("aria-current", button.dataset.system === id)
  try {
    const found = await details(id)
    if (page.chosen !== id) return
    describe(...found)
    await draw()
  } catch (error) { complain(error) }
}

function describe(system, report) {
  $("detail").hidden = false
  $("name").textContent = system.name || system.id
  $("about").textContent = [system.function, `system ${system.id}`, system.names && `a function of ${system.names.join(", ")}`]
    .filter(Boolean).join(" \u00b7 ")
  tiles($("facts"), {"flattened lines": count(report.lines), "inputs \u2192 outputs": `${count(report.inputs)} \u2192 ${count(report.outputs)}`,
    shape: report.shape, depth: count(report.depth), width: count(report.width),
    "critical path": `${seconds(report.path.span)} of ${seconds(report.path.work)}`, partition: report.partition,
    supersteps: count(report.k_star), messages: count(report.messages), "solved": count(report.solves),
    "memory a rank": bytes(report.memory_per_rank_bytes), "rows kept": count(report.rows),
    ...report.batches.vjp && {"requests a solve": report.batches.vjp.most}})
  $("why").textContent = `${report.method}: ${report.reason}`
  $("methods").tBodies[0].replaceChildren(...report.candidates.map(c => row([c.method, seconds(c.seconds),
    c.seconds == null ? "" : bytes(c.memory), c.reason], c.method === report.method)))
  const times = Object.entries(report.times), longest = Math.max(...times.map(([, t]) => t))
  $("times").tBodies[0].replaceChildren(...times.map(([stage, t]) => row([stage, seconds(t),
    element("progress", null, {max: longest, value: t, "aria-hidden": true})])))
  $("report").textContent = report.text
}

async function draw() {
  for (const button of $("kinds").children) button.setAttribute("aria-pressed", button.dataset.kind === page.kind)
  const {chosen, kind} = page
  const path = `v1/systems/${encodeURIComponent(chosen)}/pictures/${kind}`
  $("caption").textContent = "drawing \u2026"
  try {
    const answer = await ask(`${path}?dark=${dark.matches}`)
    const caption = decodeURIComponent(answer.headers.get("distdiff-caption") || "")
    const image = await answer.blob()
    if (page.chosen !== chosen || page.kind !== kind) return
    if ($("picture").src) URL.revokeObjectURL($("picture").src)
    $("picture").src = URL.createObjectURL(image)
    $("picture").alt = caption
    $("picture").hidden = false
    $("caption").textContent = caption
  } catch (error) { if (page.kind === kind) complain(error, $("caption")) }
}

function complain(error, where = null) {
  if (error instanceof Refused) return refuse(error.message)
  if (error.name === "AbortError") return
  if (where) where.textContent = error.message
  else { $("status").textContent = error.message; $("status").className = "lost" }
}

// ---- coming and going

function refuse(message) {
  sessionStorage.removeItem(KEY)
  page.token = null
  page.leaving?.abort()
  $("house").hidden = $("leave").hidden = true
  $("door").hidden = false
  $("refused").textContent = message
  $("status").textContent = "not connected"
  $("token").focus()
}

async function enter() {
  if (!page.token) return refuse("")
  page.leaving?.abort()
  const leaving = page.leaving = new AbortController()
  while (!leaving.signal.aborted) {
    try {
      for await (const state of events("events", leaving.signal)) {
        $("door").hidden = true
        $("house").hidden = $("leave").hidden = false
        sessionStorage.setItem(KEY, page.token)
        show(state)
      }
    } catch (error) {
      if (error instanceof Refused) return refuse(error.message)
      if (leaving.signal.aborted) return
    }
    $("status").textContent = "the service does not answer; asking again \u2026"
    $("status").className = "lost"
    await new Promise(resolve => setTimeout(resolve, 2000))
  }
}

$("door").addEventListener("submit", event => {
  event.preventDefault()
  page.token = $("token").value.trim()
  $("token").value = ""
  enter()
})
$("leave").addEventListener("click", () => refuse(""))
dark.addEventListener("change", () => { if (page.chosen) draw() })
for (const [kind, words] of Object.entries(KINDS)) {
  const button = element("button", words, {type: "button", "data-kind": kind, "aria-pressed": kind === page.kind})
  button.addEventListener("click", () => { page.kind = kind; draw() })
  $("kinds").append(button)
}
enter()
