// Written by `tollgate contract export`; change the contract, not this file.
/** How an order is paid. */
export type Payment = "PAYMENT_UNSPECIFIED" | "PAYMENT_CARD" | "PAYMENT_CASH";
export interface Address {
  street?: string;
  city?: string;
}
/**
 * An order, as the shop tells the rest of the company.
 *
 * Lines are never empty; an order without any is a mistake of the shop.
 */
export type Order = {
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
} & (
  // oneof receiver
  | { email: string; address?: undefined }
  | { address: Address; email?: undefined }
);
export interface Order_Line {
  sku: string;
  count?: number;
}
