// Written by `tollgate contract export`; change the contract, not this file.
import { z } from "zod";

/** How an order is paid. */
export const Payment = z.enum(["PAYMENT_UNSPECIFIED", "PAYMENT_CARD", "PAYMENT_CASH"]);
export type Payment = z.infer<typeof Payment>;
export interface Address {
  street?: string;
  city?: string;
}
export const Address: z.ZodType<Address> = z.lazy(() =>
  z.object({
    street: z.string().optional(),
    city: z.string().optional(),
  })
);
/**
 * An order, as the shop tells the rest of the company.
 *
 * Lines are never empty; an order without any is a mistake of the shop.
 */
export interface Order {
  /** A lower-case UUID. */
  id: string;
  /** Three letters, "EUR" | "USD". */
  currency: string;
  total: string;
  weight: number | "NaN" | "Infinity" | "-Infinity";
  lines: Order_Line[];
  labels?: Record<string, string>;
  payment: Payment;
  placedAt: string;
  paidAt?: string;
  hold?: string;
  email?: string;
  address?: Address;
  /** @deprecated */
  note?: string;
  points?: string | null;
  signature?: string;
  prio?: number;
  code?: string;
  score?: number | "NaN" | "Infinity" | "-Infinity";
  /** Orders that this one replaces. */
  replaces?: Order[];
  tags?: string[];
}
export const Order: z.ZodType<Order> = z.lazy(() =>
  z.object({
    id: z.string().regex(/^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/),
    currency: z.string().regex(new RegExp("^[A-Z]{3}$", "u")).refine((v) => (["EUR","USD"] as unknown[]).includes(v), "in [\"EUR\",\"USD\"]"),
    total: z.string().regex(/^-?[0-9]+$/).refine((v) => BigInt(v) >= BigInt("1"), "gte 1").refine((v) => BigInt(v) < BigInt("9007199254740993"), "lt 9007199254740993"),
    weight: z.number().gt(0.0).lte(1000.0),
    lines: z.array(Order_Line).min(1).max(100),
    labels: z.record(z.string().refine((v) => Array.from(v).length >= 1, "min_len 1"), z.string().refine((v) => Array.from(v).length <= 5, "max_len 5")).refine((v) => Object.keys(v).length <= 3, "max_pairs 3").optional(),
    payment: z.enum(["PAYMENT_CARD","PAYMENT_CASH"]),
    placedAt: z.string().datetime({ offset: true }),
    paidAt: z.string().datetime({ offset: true }).optional(),
    hold: z.string().regex(/^-?[0-9]+(\.[0-9]{1,9})?s$/).optional(),
    email: z.string().email().optional(),
    address: Address.optional(),
    note: z.string().refine((v) => Array.from(v).length <= 10, "max_len 10").optional(),
    points: z.string().regex(/^-?[0-9]+$/).nullable().optional(),
    signature: z.string().regex(/^[A-Za-z0-9+\/_-]*={0,2}$/).optional(),
    prio: z.number().int().gte(0).lte(4294967295).optional(),
    code: z.union([z.literal(""), z.string().startsWith("a.b").refine((v) => Array.from(v).length >= 2, "min_len 2")]).optional(),
    score: z.union([z.number(), z.enum(["NaN", "Infinity", "-Infinity"])]).optional(),
    replaces: z.array(Order).optional(),
    tags: z.array(z.string().regex(new RegExp("^(?![\\s\\S]*\\*)"))).refine((v) => new Set(v).size === v.length, "unique").optional(),
  })
  .refine((m) => [m["email"], m["address"]].filter((v) => v !== undefined).length === 1, "oneof receiver: exactly one may be set")
);
// also checked by the gate: cel[order.paid_after_placed] = "!has(this.paid_at) || this.paid_at >= this.placed_at"
export interface Order_Line {
  sku: string;
  count?: number;
}
export const Order_Line: z.ZodType<Order_Line> = z.lazy(() =>
  z.object({
    sku: z.string().refine((v) => Array.from(v).length >= 1, "min_len 1"),
    count: z.number().int().gte(0).lte(4294967295).optional(),
  })
);
