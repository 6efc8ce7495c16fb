import { defineConfig } from "vite";

// Three files with fixed names: their diffs stay readable and the node serves them with an ETag. Nothing is inlined
// as a script or style element, since the node's Content-Security-Policy allows neither.
export default defineConfig({
  base: "/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        inlineDynamicImports: true,
        entryFileNames: "page.js",
        assetFileNames: "page[extname]",
      },
    },
  },
  server: { proxy: proxy() },
  preview: { proxy: proxy() },
});

/** For `npm run dev` beside a running node, which judges the Host and Origin it is told. */
function proxy() {
  const target = process.env.BANDMESH ?? "http://127.0.0.1:7780";
  return { "/api": { target, ws: true, changeOrigin: true, headers: { origin: target } } };
}
