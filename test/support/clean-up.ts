import { after } from "node:test";

/**
 * To be called in a `describe`: what is given to the function that it returns is undone when the group is over.
 * Not every runtime calls the `t.after` of a test in a group.
 */
export function makeCleanUp() {
  const undo: (() => unknown)[] = [];
  after(async () => {
    for (const step of undo.reverse()) await step();
  });
  return (step: () => unknown) => void undo.push(step);
}

export type CleanUp = ReturnType<typeof makeCleanUp>;
