// All keys.
import { controlKeys, shortcuts } from "../keys";
import { Dialog } from "../ui/controls";
import { dialog } from "./view";

export function Help() {
  return (
    <Dialog title="Keys" class="help" onClose={() => (dialog.value = null)}>
      <Keys title="Anywhere but in a text field" list={shortcuts} />
      <Keys title="On a control" list={controlKeys} />
    </Dialog>
  );
}

function Keys({ title, list }: { title: string; list: { keys: string; does: string }[] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl class="keys">
        {list.map(({ keys, does }) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
