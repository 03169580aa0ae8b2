// What a program would write against the generated types; `tsc` must take it as it is.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const client = createClient<paths>({ baseUrl: "http://localhost:8000" });

export async function create(order_id: string): Promise<boolean> {
  const { response } = await client.POST("/orders", { body: { order_id, customer_id: "ada" } });
  return response.ok; // its currency has a default
}

export async function fill(order_id: string): Promise<components["schemas"]["Receipt"]> {
  const { data, error } = await client.POST("/orders/{order_id}/lines", {
    params: { path: { order_id }, header: { "Idempotency-Key": "line 1", "Rayfold-Timeout": "5" } },
    body: { sku: "tea", quantity: 2, unit_price_cents: 450 },
  });
  if (error) throw new Error(`${error.title}: ${error.detail}`);
  if ("status" in data) throw new Error("only a command with Rayfold-Not-Before waits");
  return data;
}

export async function total(order_id: string): Promise<number | undefined> {
  const { data, response } = await client.GET("/orders/{order_id}", {
    params: { path: { order_id }, query: { as_of: "3" } },
  });
  if (response.status !== 200 || data === undefined || !("total_cents" in data)) return undefined;
  return data.total_cents;
}

export async function misuse(order_id: string): Promise<void> {
  // @ts-expect-error: a line has a price
  await client.POST("/orders/{order_id}/lines", { params: { path: { order_id } }, body: { sku: "tea", quantity: 2 } });
  // @ts-expect-error: nobody can ask for the time of a command
  const timed: components["schemas"]["PlaceOrderBody"] = { at: "now" };
  await client.POST("/orders/{order_id}/place", { params: { path: { order_id } }, body: timed });
}
