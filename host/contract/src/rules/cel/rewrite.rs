//! Rewrites an expression's tree before it runs.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use prost_reflect::DescriptorPool;

use super::functions::HAS;

/// The results of rewriting an expression.
#[derive(Default)]
pub(super) struct Uses {
    /// Whether it uses the current time.
    pub now: bool,
    /// Whether it uses `dyn()`, which defers types to the event.
    pub dynamic: bool,
}

/// Rewrites `has()` and the names of enum values.
pub(super) fn rewrite(ast: &mut IdedExpr, pool: &DescriptorPool) -> Uses {
    let mut rewriter = Rewriter { pool, bound: Vec::new(), uses: Uses::default() };
    rewriter.expr(ast);
    rewriter.uses
}

struct Rewriter<'a> {
    pool: &'a DescriptorPool,
    /// The variables of the enclosing comprehensions.
    bound: Vec<String>,
    uses: Uses,
}

impl Rewriter<'_> {
    fn expr(&mut self, ast: &mut IdedExpr) {
        if let Some(number) = self.enum_value(&ast.expr) {
            ast.expr = Expr::Literal(LiteralValue::Int(i64::from(number).into()));
            return;
        }
        match &mut ast.expr {
            Expr::Ident(name) => self.uses.now |= name == "now" && !self.bound.contains(name),
            Expr::Select(select) => {
                self.expr(&mut select.operand);
                if select.test {
                    let operand = std::mem::take(&mut *select.operand);
                    let field = LiteralValue::String(std::mem::take(&mut select.field).into());
                    let field = IdedExpr { id: ast.id, expr: Expr::Literal(field) };
                    ast.expr = Expr::Call(CallExpr { func_name: HAS.into(), target: None, args: vec![operand, field] });
                }
            }
            Expr::Call(call) => {
                self.uses.dynamic |= call.func_name == "dyn";
                call.target.iter_mut().for_each(|target| self.expr(target));
                call.args.iter_mut().for_each(|argument| self.expr(argument));
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.expr(element)),
            Expr::Map(map) => map.entries.iter_mut().for_each(|entry| self.entry(&mut entry.expr)),
            Expr::Struct(literal) => literal.entries.iter_mut().for_each(|entry| self.entry(&mut entry.expr)),
            Expr::Comprehension(comprehension) => {
                self.expr(&mut comprehension.iter_range);
                self.expr(&mut comprehension.accu_init);
                let outside = self.bound.len();
                self.bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
                self.bound.extend(comprehension.iter_var2.clone());
                for part in [&mut comprehension.loop_cond, &mut comprehension.loop_step, &mut comprehension.result] {
                    self.expr(part);
                }
                self.bound.truncate(outside);
            }
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn entry(&mut self, entry: &mut EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.expr(&mut field.value),
            EntryExpr::MapEntry(entry) => {
                self.expr(&mut entry.key);
                self.expr(&mut entry.value);
            }
        }
    }

    /// Returns the number of `package.Enum.VALUE`.
    fn enum_value(&self, expr: &Expr) -> Option<i32> {
        let Expr::Select(select) = expr else { return None };
        let path = path(&select.operand.expr)?;
        let root = path.split('.').next()?;
        if select.test || matches!(root, "this" | "rule" | "rules") || self.bound.iter().any(|name| name == root) {
            return None;
        }
        let descriptor = self.pool.get_enum_by_name(&path)?;
        descriptor.get_value_by_name(&select.field).map(|value| value.number())
    }
}

/// Returns the dotted name that an expression spells.
fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path(&select.operand.expr)?, select.field)),
        _ => None,
    }
}
