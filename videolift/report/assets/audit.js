"use strict";
// One frame after the other, a few questions each. Marks stay in this browser and are saved as a file for `videolift audit --marks`.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const KEY = `videolift audit ${D.id}`, ANSWERS = ["right", "wrong", "unsure"];
const QUESTIONS = {
  hands: "Every hand in view has its skeleton on its own fingers and its own side; nothing else has one.",
  tracks: "Trails lie on the surface that they began on; what moves is coloured, what stands still is pale.",
  depth: "Warm is near and cold is far, as in the picture, with edges where the things' edges are.",
};
const questions = D.rows.flatMap((row, number) => row.parts.map((part) => ({ number, part })));
const name = ({ number, part }) => `${D.rows[number].video} ${D.rows[number].frame} ${part}`;
let marks = {}, at = 0;
try { marks = JSON.parse(localStorage.getItem(KEY) || "{}"); } catch { $("how").textContent = "This browser keeps nothing for pages from disk: save before you close it."; }

const isOpen = (question) => !marks[name(question)];
function answer(question, given) {
  marks[name(question)] = given;
  try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { /* said above */ }
  const more = questions.filter((other) => other.number === at).some(isOpen);
  const next = questions.find((other) => other.number > at && isOpen(other)) || questions.find(isOpen);
  show(more || !next ? at : next.number);
}
function show(number) {
  at = Math.min(D.rows.length - 1, Math.max(0, number));
  const row = D.rows[at], done = questions.length - questions.filter(isOpen).length;
  $("title").textContent = `Audit of ${D.name}: ${D.rows.length} frames`;
  $("where").textContent = `${at + 1} of ${D.rows.length}: ${row.video}, ${row.seconds} s`;
  for (const kind of ["bare", "labels"]) {
    $(kind).src = `data:image/jpeg;base64,${row[kind]}`;
    $(kind).alt = `${row.video} at ${row.seconds} s, ${kind === "bare" ? "as it was filmed" : "with its labels, depth beside it"}`;
  }
  $("progress").max = questions.length; $("progress").value = done;
  $("count").textContent = `${done} of ${questions.length} answered`;
  const mine = questions.filter((question) => question.number === at), first = mine.find(isOpen);
  $("questions").replaceChildren(...mine.map((question) => {
    const box = document.createElement("fieldset"), legend = document.createElement("legend"), text = document.createElement("p");
    legend.textContent = question.part; text.textContent = QUESTIONS[question.part];
    box.className = question === first ? "open" : "";
    box.append(legend, text, ...ANSWERS.map((given) => {
      const button = document.createElement("button");
      button.textContent = given; button.className = given;
      button.setAttribute("aria-pressed", String(marks[name(question)] === given));
      button.addEventListener("click", () => answer(question, given));
      return button;
    }));
    return box;
  }));
}
function saved() {
  const rows = questions.filter((question) => !isOpen(question)).map((question) => {
    const { video, frame, sha256 } = D.rows[question.number];
    return { video, frame, sha256, part: question.part, answer: marks[name(question)] };
  });
  return JSON.stringify({ marks: rows }, null, 1);
}
$("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([saved()], { type: "application/json" }));
  link.download = "audit_marks.json";
  link.click();
  URL.revokeObjectURL(link.href);
  $("how").textContent = "Saved as audit_marks.json. Now type: videolift audit --marks audit_marks.json -o OUTPUT";
});
$("back").addEventListener("click", () => show(at - 1));
$("next").addEventListener("click", () => show(at + 1));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const given = { r: "right", w: "wrong", u: "unsure" }[event.key.toLowerCase()];
  const first = questions.find((question) => question.number === at && isOpen(question));
  if (given && first) answer(first, given);
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") show(at + (event.key === "ArrowRight" ? 1 : -1));
});
const start = questions.find(isOpen);
show(start ? start.number : 0);
document.documentElement.dataset.ready = "1";
