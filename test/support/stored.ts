/** Between the document in memory and its text in a store, as the script reads and writes it. */
import {
  createInitialJobExecutions,
  type JobExecutions,
  retrieveJobExecutions,
  uploadJobExecutions,
} from "../../check-failures.ts";
import { memoryStore } from "./builders.ts";

const { signal } = new AbortController();

export async function parseDocument(text: string | undefined): Promise<JobExecutions> {
  const stored = await retrieveJobExecutions(memoryStore(text).store, signal);
  return stored?.document ?? createInitialJobExecutions();
}

export async function serializeDocument(document: JobExecutions): Promise<string> {
  const { store, stored } = memoryStore();
  await uploadJobExecutions(document, undefined, store, signal);
  return `${stored.text}`;
}
