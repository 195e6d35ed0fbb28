// A form in the details that sends a text to a model, and shows the answer.

import { element } from "./dom.js";

// `answer(text)` promises what to show. A request that is running is shown as `busy`, and not repeated.
export function modelForm({ label, verb, busy, value = "" }, answer) {
  const field = element("input", { type: "text", maxlength: "500", required: true, value, "aria-label": label, placeholder: label });
  const send = element("button", { type: "submit" }, verb), status = element("p", { class: "answer", role: "status" });
  const submit = async (event) => {
    event.preventDefault();
    if (send.getAttribute("aria-disabled")) return; // a disabled button would lose the focus
    send.setAttribute("aria-disabled", "true");
    try {
      const answered = answer(field.value);
      status.textContent = busy;
      status.textContent = await answered;
    } catch (error) {
      status.textContent = error.message;
    }
    send.removeAttribute("aria-disabled");
  };
  return element("form", { class: "question", onsubmit: submit }, element("div", {}, field, send), status);
}
