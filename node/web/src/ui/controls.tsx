// Buttons, toggles, meters and names that every view is made of.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { showMeter, FLOOR_DB, type Source } from "../meters";
import { readOnly } from "../store";
import { Icon, type IconName } from "./Icon";

interface ButtonProps {
  label: string;
  onClick: (event: MouseEvent) => void;
  icon?: IconName;
  children?: ComponentChildren;
  class?: string;
  disabled?: boolean;
  /** Works in a page that only looks, too. */
  harmless?: boolean;
  title?: string;
  keys?: string;
}

function hint(label: string, keys?: string): string {
  return keys ? `${label} (${keys})` : label;
}

export function Button({ label, onClick, icon, children, harmless, disabled, keys, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      class={`button ${rest.class ?? ""}`}
      aria-label={label}
      aria-keyshortcuts={keys}
      title={rest.title ?? hint(label, keys)}
      disabled={disabled || (!harmless && readOnly.value)}
      onClick={onClick}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

interface ToggleProps extends ButtonProps {
  on: boolean;
}

export function Toggle({ on, label, onClick, icon, children, harmless, disabled, keys, ...rest }: ToggleProps) {
  return (
    <button
      type="button"
      class={`button toggle ${rest.class ?? ""}`}
      aria-pressed={on}
      aria-label={label}
      aria-keyshortcuts={keys}
      title={rest.title ?? hint(label, keys)}
      disabled={disabled || (!harmless && readOnly.value)}
      onClick={onClick}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** A stranger's name: text only, cut, in its own direction. */
export function Name({ text, class: className }: { text: string; class?: string }) {
  return (
    <bdi class={`name ${className ?? ""}`} title={text}>
      {text}
    </bdi>
  );
}

export function Meter({ sources, label, lies }: { sources: Source[]; label: string; lies?: boolean }) {
  const host = useRef<HTMLDivElement>(null);
  const key = JSON.stringify(sources);
  useEffect(() => {
    const canvases = [...(host.current?.querySelectorAll("canvas") ?? [])];
    const ends = canvases.map((canvas, at) => showMeter(canvas, sources[at] as Source, at === 0 ? host.current : null));
    return () => ends.forEach((end) => end());
  }, [key]);
  return (
    <div
      class={`meter ${sources.length > 1 ? "pair-of" : ""} ${lies ? "lies" : ""}`}
      ref={host}
      role="meter"
      aria-label={label}
      aria-valuemin={FLOOR_DB}
      aria-valuemax={6}
      aria-valuenow={FLOOR_DB}
      aria-valuetext="silent"
    >
      {sources.map((_, at) => (
        <canvas key={at} />
      ))}
    </div>
  );
}

interface DialogProps {
  title: string;
  onClose?: (() => void) | undefined;
  children: ComponentChildren;
  class?: string;
}

/** A modal dialog; the browser keeps the focus inside and gives it back. */
export function Dialog({ title, onClose, children, class: className }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog class={`dialog ${className ?? ""}`} ref={dialog} aria-labelledby="dialog-title" 
      onCancel={(event: Event) => {
        event.preventDefault();
        onClose?.();
      }}
    >
      <header class="dialog-head">
        <h2 id="dialog-title">{title}</h2>
        {onClose && <Button label="Close" icon="close" class="quiet" harmless onClick={onClose} />}
      </header>
      {children}
    </dialog>
  );
}
