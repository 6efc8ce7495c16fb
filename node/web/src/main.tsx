import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./styles/base.css";
import "./styles/frame.css";
import "./styles/strip.css";
import "./styles/views.css";
import { takeToken } from "./api/token";
import { App } from "./App";
import { listenToKeys } from "./keys";
import { socket, start } from "./store";

takeToken();
// A new link opened in this tab changes the fragment only.
addEventListener("hashchange", () => {
  takeToken();
  socket.now();
});
listenToKeys();
start();
const root = document.getElementById("app");
if (root) render(<App />, root);
